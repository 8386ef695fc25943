"""Several processes that promote at once, on each kind of store; compare-and-swap where there is no lock."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.tracking import MlflowClient

from mlflow_server import tracking_server
from postgres import postgres_database
from salon.registry import aliases
from salon.registry.aliases import CHAMPION, PREVIOUS, move_aliases, version_at

NAME = "salon-gan"
PROCESSES, PROMOTIONS = 3, 3

PROMOTE = """
import sys, time
from pathlib import Path
from salon.paths import Paths
from salon.registry.aliases import CHAMPION, PREVIOUS, move_aliases, version_at
from salon.registry.lock import registry_lock
from salon.tracking.runs import Store

uri, name, folder, first, count = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
store = Store(uri, "0")
client = store.client
for number in range(first, first + count):
    with registry_lock(store, Paths(Path(folder)), name=name) as exclusive:
        while True:
            champion = version_at(client, name, CHAMPION)
            if champion is not None and int(champion.version) > number:
                break  # the higher number is the better one
            time.sleep(0.05)  # as a comparison takes
            new = {PREVIOUS: str(champion.version)} if champion else {}
            new |= {CHAMPION: str(number)}
            if move_aliases(client, name, new, expected=champion, exclusive=exclusive):
                break
            if exclusive:
                sys.exit("moved by another process, inside the lock")
"""


@pytest.fixture(params=["sqlite", "postgresql", "http"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            yield f"sqlite:///{tmp_path / 'mlflow.db'}"
        elif request.param == "http":
            yield stack.enter_context(tracking_server(tmp_path / "server"))
        else:
            url = stack.enter_context(postgres_database())
            if url is None:
                pytest.skip("PostgreSQL or its driver is not installed")
            yield url


def test_processes_that_promote_at_once_leave_the_best_champion(uri: str, tmp_path: Path):
    client = MlflowClient(tracking_uri=uri)
    run = client.create_run("0").info
    client.create_registered_model(NAME)
    for _ in range(PROCESSES * PROMOTIONS):
        client.create_model_version(NAME, source=f"{run.artifact_uri}/model", run_id=run.run_id)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    processes = []
    for i in range(PROCESSES):
        arguments = [uri, NAME, str(tmp_path / f"workspace-{i}"), str(1 + i * PROMOTIONS), str(PROMOTIONS)]
        process = subprocess.Popen(
            [sys.executable, "-c", PROMOTE, *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        processes.append(process)
    seen = []
    while any(process.poll() is None for process in processes):
        seen.append(CHAMPION in client.get_registered_model(NAME).aliases)
        time.sleep(0.05)
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES, outputs
    assert seen == sorted(seen)  # never none after the first
    model = client.get_registered_model(NAME)
    assert str(model.aliases[CHAMPION]) == str(PROCESSES * PROMOTIONS)
    assert model.tags == {}


class SlowRegistry:
    """The aliases of one registered model; every request takes a moment, so that requests interleave."""

    def __init__(self, **standing: str) -> None:
        self.aliases = dict(standing)
        self.written: list[str] = []

    def get_model_version_by_alias(self, name: str, alias: str) -> ModelVersion:
        time.sleep(0.002)
        if alias not in self.aliases:
            raise MlflowException("not found", INVALID_PARAMETER_VALUE)
        return version(self.aliases[alias])

    def set_registered_model_alias(self, name: str, alias: str, number: str) -> None:
        time.sleep(0.002)
        self.aliases[alias] = number
        if alias == CHAMPION:
            self.written.append(number)

    def get_registered_model(self, name: str) -> RegisteredModel:
        time.sleep(0.002)
        model = RegisteredModel(name)
        model._aliases = dict(self.aliases)
        return model


def version(number: str) -> ModelVersion:
    return ModelVersion(NAME, number, creation_timestamp=0)


def test_of_many_that_swap_at_once_the_best_is_champion(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(aliases, "SETTLE_SECONDS", 0.3)
    registry = SlowRegistry()

    def promote(number: int) -> None:
        while True:
            champion = version_at(registry, NAME, CHAMPION)
            if champion is not None and int(champion.version) > number:
                return
            if move_aliases(registry, NAME, {CHAMPION: str(number)}, expected=champion, exclusive=False):
                return

    threads = [threading.Thread(target=promote, args=(number,)) for number in (5, 3, 8, 1, 7, 2, 6, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.aliases[CHAMPION] == "8", registry.written


def test_a_decision_against_another_champion_writes_nothing():
    registry = SlowRegistry(champion="2", previous="1")
    swapped = {PREVIOUS: "1", CHAMPION: "3"}
    assert not move_aliases(registry, NAME, swapped, expected=version("1"), exclusive=False)
    assert not move_aliases(registry, NAME, swapped, expected=None, exclusive=True)
    assert registry.aliases == {"champion": "2", "previous": "1"}


@pytest.mark.parametrize(
    ("others", "stands"), [({CHAMPION: "4"}, False), ({CHAMPION: "4", PREVIOUS: "3"}, True)]
)
def test_who_was_overwritten_decides_again_and_who_was_replaced_does_not(
    monkeypatch: pytest.MonkeyPatch, others: dict[str, str], stands: bool
):
    registry = SlowRegistry(champion="1")

    def meanwhile(seconds: float) -> None:
        if seconds == aliases.SETTLE_SECONDS:
            registry.aliases.update(others)

    monkeypatch.setattr(time, "sleep", meanwhile)
    swapped = {PREVIOUS: "1", CHAMPION: "3"}
    assert move_aliases(registry, NAME, swapped, expected=version("1"), exclusive=False) is stands
