"""What is made once per session: a small world, really ingested, and one real `dvc repro` of everything."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline_clone import REPOSITORY, Clone
from salon.commands import smoke
from salon.paths import Paths
from salon.stages import ingest
from tiny import write_tiny_params

pytest_plugins = ["judged_world"]


@pytest.fixture(scope="module", autouse=True)
def store_of_its_own() -> Iterator[None]:
    """Lightning's logger makes its store that of the whole process; the next file has another."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    yield
    if "mlflow" in sys.modules:
        sys.modules["mlflow"].set_tracking_uri(None)
    if before is None:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    else:
        os.environ["MLFLOW_TRACKING_URI"] = before


@pytest.fixture(scope="session")
def ingested_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace after `salon ingest`. Read only: take `tiny_world` to change it."""
    root = tmp_path_factory.mktemp("world")
    ingest.run(write_tiny_params(root), Paths(root))
    return root


@pytest.fixture
def tiny_world(ingested_world: Path, tmp_path: Path) -> Path:
    """A copy of the ingested workspace."""
    root = tmp_path / "world"
    shutil.copytree(ingested_world, root)
    return root


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the pipeline ran at the smoke profile. Each test leaves it up to date."""
    paths = smoke.make_clone(Paths(REPOSITORY), tmp_path_factory.mktemp("pipeline") / "clone")
    smoke.apply_profile(paths, "smoke")
    return Clone(paths, smoke.repro(paths))
