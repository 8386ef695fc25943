"""Turns over a registry that offers nothing but tags."""

import threading
import time

import pytest
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from salon.errors import SalonError
from salon.registry.lock import TICKET, turn

NAME = "salon-gan"
QUICK = {"poll_seconds": 0.002, "beat_seconds": 0.01, "dead_seconds": 5.0}


class SlowRegistry:
    """The tags of one registered model; every request takes a moment, so that requests interleave."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {"owner": "somebody"}

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        self._check(name)
        self.tags[key] = value

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        self._check(name)
        self.tags.pop(key, None)

    def get_registered_model(self, name: str) -> RegisteredModel:
        self._check(name)
        model = RegisteredModel(name)
        model._tags = dict(self.tags)
        return model

    def _check(self, name: str) -> None:
        time.sleep(0.001)
        if name != NAME:
            raise MlflowException("not found", RESOURCE_DOES_NOT_EXIST)

    @property
    def tickets(self) -> list[str]:
        return [key for key in self.tags if key.startswith(TICKET)]


def test_one_at_a_time_and_everybody_comes_to_it() -> None:
    registry = SlowRegistry()
    inside, most, turns = 0, 0, 0

    def work() -> None:
        nonlocal inside, most, turns
        for _ in range(10):
            with turn(registry, NAME, **QUICK):
                inside += 1
                most = max(most, inside)
                before = turns
                time.sleep(0.002)
                turns = before + 1  # lost where two were inside
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most, turns) == (1, 60)
    assert registry.tags == {"owner": "somebody"}


def test_the_dead_are_not_waited_for_and_the_living_are() -> None:
    registry = SlowRegistry()
    registry.tags |= {f"{TICKET}killed-choosing": "0 0", f"{TICKET}killed-inside": "1 7"}
    started = time.monotonic()
    with turn(registry, NAME, **{**QUICK, "dead_seconds": 0.2}):
        waited = time.monotonic() - started
        assert len(registry.tickets) == 1
        second = threading.Thread(target=lambda: _take_turn(registry, dead_seconds=0.2))
        second.start()
        time.sleep(0.6)  # far longer than the dead are waited for
        assert second.is_alive()
    second.join(timeout=5)
    assert 0.2 < waited < 2
    assert registry.tickets == []


def test_a_failure_inside_gives_the_turn_back() -> None:
    registry = SlowRegistry()
    with pytest.raises(ValueError, match="inside"), turn(registry, NAME, **QUICK):
        raise ValueError("inside")
    assert registry.tickets == []


def test_who_was_taken_for_dead_does_not_go_on() -> None:
    registry = SlowRegistry()
    registry.tags[f"{TICKET}first"] = "1 0"

    def take_away() -> None:
        time.sleep(0.1)
        for ticket in registry.tickets:
            registry.tags.pop(ticket)

    thief = threading.Thread(target=take_away)
    thief.start()
    with (
        pytest.raises(SalonError, match="run it again"),
        turn(registry, NAME, **{**QUICK, "beat_seconds": 9}),
    ):
        pytest.fail("entered")
    thief.join()


def test_a_model_that_does_not_exist_needs_no_turn() -> None:
    with turn(SlowRegistry(), "salon-nonesuch", **QUICK):
        pass


def _take_turn(registry: SlowRegistry, *, dead_seconds: float) -> None:
    with turn(registry, NAME, **{**QUICK, "dead_seconds": dead_seconds}):
        pass
