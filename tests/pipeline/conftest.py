"""One real `dvc repro` at the smoke profile, shared by the pipeline tests. Each test leaves it up to date."""

import pytest
from pipeline_clone import REPOSITORY, Clone

from salon.paths import Paths
from salon.stages import smoke


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    paths = smoke.make_clone(Paths(REPOSITORY), tmp_path_factory.mktemp("pipeline") / "clone")
    smoke.apply_profile(paths, "smoke")
    return Clone(paths, smoke.repro(paths))
