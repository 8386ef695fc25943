"""A small world, really ingested once per session; each test that changes it gets its own copy."""

import shutil
from pathlib import Path

import pytest

from salon.paths import Paths
from salon.stages import ingest
from tiny import write_tiny_params


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
