"""What the workflows run is run here: every `run:` line, in a clone, with the environment of these tests."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from salon.commands import smoke
from salon.errors import DriftError, GateError
from salon.files import read_json, write_json
from salon.paths import Paths
from tiny import TINY_EMOJI

pytestmark = pytest.mark.pipeline
REPOSITORY = Path(__file__).parents[2]
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
STEP_KEYS = {"id", "if", "name", "uses", "with", "run", "env", "shell", "working-directory"}


def read(workflow: Path) -> dict[Any, Any]:
    return yaml.safe_load(workflow.read_text(encoding="utf-8"))


def steps(workflow: Path) -> list[dict[str, Any]]:
    return [step for job in read(workflow)["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_whole(workflow: Path) -> None:
    content = read(workflow)
    assert set(content) <= {"name", True, "permissions", "concurrency", "jobs", "env"}  # `on` reads as True
    assert content["permissions"] == {"contents": "read"}
    assert set(content[True]) == {"push", "pull_request"}
    for trigger in content[True].values():
        for pattern in (trigger or {}).get("paths", []):
            assert list(REPOSITORY.glob(pattern.removesuffix("/**"))), f"{pattern} is nowhere"
    for job in content["jobs"].values():
        assert job["timeout-minutes"] <= 60
    for step in steps(workflow):
        assert set(step) <= STEP_KEYS
        assert ("uses" in step) != ("run" in step)
        assert "uses" not in step or re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])


def test_the_data_are_checked_when_anything_that_makes_them_changes() -> None:
    triggers = read(REPOSITORY / ".github" / "workflows" / "data.yml")[True]
    assert triggers["push"]["paths"] == triggers["pull_request"]["paths"]
    assert {"data/**", "params.yaml", "src/salon/data/**"} <= set(triggers["push"]["paths"])


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A clone with a small world, and an environment that is this one."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    clone = smoke.make_clone(Paths(REPOSITORY), tmp_path_factory.mktemp("workflows") / "clone")
    raw = yaml.safe_load(clone.params.read_text(encoding="utf-8"))
    raw["ingest"]["emoji"].update(TINY_EMOJI)
    raw["validate"].update(min_rows=50, max_attribute_imbalance=4.0)
    clone.params.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    environment = clone.root / ".venv"
    environment.mkdir()
    for part in ("bin", "lib", "pyvenv.cfg"):
        (environment / part).symlink_to(Path(sys.prefix) / part)
    for stamp in (".packages", ".complete"):
        (environment / stamp).touch()
    return clone


def run(clone: Paths, line: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: v for name, v in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", line],  # as GitHub runs it
        cwd=clone.root,
        env=environment | smoke.clone_environment(clone.root) | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_line_that_the_workflows_run_is_tried_here() -> None:
    lines = {step["run"] for workflow in WORKFLOWS for step in steps(workflow) if "run" in step}
    assert lines == {".ci/run", "make check-data"}


def test_ci_runs_the_tests(clone: Paths) -> None:
    done = run(clone, ".ci/run", PYTEST_ARGS="tests/data/test_splits.py -q -p no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)
    failing = run(clone, ".ci/run", PYTEST_ARGS="tests/absent.py")
    assert failing.returncode


def test_check_data_tells_the_job_what_is_wrong(clone: Paths, tmp_path: Path) -> None:
    """The accepted data are those of the default world: a small one is not like them until it is accepted."""
    job = tmp_path / "summary.md"
    drifted = run(clone, "make check-data", GITHUB_STEP_SUMMARY=str(job))
    assert f"Error {DriftError.exit_code}" in drifted.stderr, drifted.stdout + drifted.stderr
    assert "lost_names" in drifted.stderr
    assert job.read_text().startswith("# Data: passed, but not like the accepted data")
    for path in ("validation.json", "validation.md", "data_docs/index.html"):
        assert (clone.root / "reports" / path).is_file()

    assert read_json(clone.accepted)["rows"]["train"] > 240
    write_json(clone.accepted, profile_of(clone))
    passed = run(clone, "make check-data")
    assert passed.returncode == 0, passed.stdout + passed.stderr

    shard = clone.interim / "val-00000.parquet"
    shard.chmod(0o644)
    shard.write_bytes(shard.read_bytes()[:1000])
    broken = run(clone, ".venv/bin/python -m salon validate")
    assert broken.returncode == GateError.exit_code
    assert "shards_readable" in broken.stderr


def profile_of(clone: Paths) -> dict[str, Any]:
    from salon.data.ingest.worlds.base import NOTHING_KNOWN
    from salon.data.validate.drift import profile_data
    from salon.data.validate.frames import gather
    from salon.params import load_params

    counts = read_json(clone.ingest_report)["splits"]
    settings = load_params(clone.params).validate_
    return profile_data(gather(clone.interim, ingested=counts, sources=NOTHING_KNOWN, settings=settings))
