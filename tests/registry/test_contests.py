"""Contests are numbered once each, and counted for each champion by itself."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from mlflow.entities.model_registry import ModelVersion
from mlflow.tracking import MlflowClient

from salon.registry import contests
from salon.registry.contests import claim

NAME = "salon-gan"


@pytest.fixture
def client(tmp_path: Path) -> MlflowClient:
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client.create_registered_model(NAME)
    return client


def version(number: int) -> ModelVersion:
    return ModelVersion(NAME, str(number), creation_timestamp=0)


def test_each_champion_counts_its_own_challengers_and_no_number_comes_twice(client: MlflowClient) -> None:
    asked = [(2, "1"), (3, "1"), (4, "3"), (5, "3"), (5, "1")]  # 3 replaced 1, and then was rolled back
    found = [claim(client, version(challenger), champion, exclusive=True) for challenger, champion in asked]
    assert found == [(1, 1), (2, 2), (3, 1), (4, 2), (5, 3)]


def test_a_contest_that_saw_nothing_leaves_its_number_to_the_next(client: MlflowClient) -> None:
    number, _ = claim(client, version(2), "1", exclusive=True)
    client.delete_registered_model_tag(NAME, f"contest.{number}")
    assert claim(client, version(3), "1", exclusive=True) == (1, 1)


def test_of_several_that_claim_at_once_each_has_a_number(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contests, "SETTLE_SECONDS", 1.0)
    with ThreadPoolExecutor(3) as pool:
        claims = pool.map(partial(claim, client, champion="1", exclusive=False), map(version, (2, 3, 4)))
    assert {number for number, _ in claims} == {1, 2, 3}
