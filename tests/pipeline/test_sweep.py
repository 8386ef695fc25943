"""The page about sweeps, typed as it stands but for fewer values: only what a setting changes runs again."""

import re
import time

import pytest
from mlflow.tracking import MlflowClient

from pages import REPOSITORY, commands
from pipeline_clone import Clone
from reader import Reader
from salon.files import read_json
from salon.registry.candidate import model_sha256

pytestmark = pytest.mark.pipeline

PAGE = commands((REPOSITORY / "docs" / "sweeps.md").read_text(encoding="utf-8"))
VALUES = {"lr-1": 0.0015, "lr-2": 0.002}
TIMEOUT_SECONDS = 800
METHOD_STAGES = ["train@dalle", "select@dalle", "evaluate@dalle", "register@dalle"]


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


def test_queued_experiments_rerun_only_what_they_change(clone: Clone) -> None:
    settings = clone.paths.params.read_text(encoding="utf-8")
    reader = Reader(clone.root)
    head = reader.type("git rev-parse HEAD").strip()
    try:
        commit, export, queue, start, status, show, apply, unset, repro = typed_on_the_page()
        reader.type(commit)
        reader.type(export)
        reader.type(re.sub(r"lr=[\d.,]+", "lr=" + ",".join(str(value) for value in VALUES.values()), queue))
        reader.type(start)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while re.search("Queued|Running", reader.type(status)):
            assert time.monotonic() < deadline
            time.sleep(1)
        for name in VALUES:
            assert stages_run(reader.type(f"dvc queue logs {name}")) == METHOD_STAGES

        table = reader.type(show)
        assert all(f"[{name}]" in table and f" {value} " in table for name, value in VALUES.items())

        sweep = MlflowClient(tracking_uri=f"sqlite:///{clone.root / 'sweep.db'}")
        (experiment,) = sweep.search_experiments(filter_string="name = 'salon'")
        runs = sweep.search_runs([experiment.experiment_id], "tags.`salon.method` = 'dalle'")
        trained = {float(run.data.params["method.lr"]): run for run in runs if "method.lr" in run.data.params}
        assert set(trained) == set(VALUES.values())
        assert all("val/alignment_all" in run.data.metrics for run in trained.values())
        for run in trained.values():  # the folder in which it was trained is gone
            assert sweep.list_artifacts(run.info.run_id)

        reader.type(apply)
        assert clone.params.method("dalle")["lr"] == VALUES["lr-2"]
        reader.type(unset)
        # nothing is trained or judged again; `salon sync` tells the real registry
        output = reader.type(repro)
        assert stages_run(output) == ["compare"]
        applied = read_json(clone.paths.registration("dalle"))["model_sha256"]
        assert model_sha256(clone.paths, "dalle") == applied
        assert re.search(r"salon-dalle version \d+: .*the registry did not have it", output)
        # asked by a process of its own: this one may hold open a database that another test moved away
        assert "salon-dalle: in step" in clone.run("salon", "sync")
    finally:
        reader.leave()
        clone.paths.params.write_text(settings, encoding="utf-8")
        reader.type(f"unset MLFLOW_TRACKING_URI; git reset --quiet {head}")
        # what was trained before is taken from the cache
        assert "train@dalle" not in stages_run(clone.run("dvc", "repro"))


def typed_on_the_page() -> list[str]:
    wanted = ("git add", "export", "dvc exp run", "dvc queue start", "dvc queue status", "dvc exp show")
    wanted += ("dvc exp apply", "unset", "make repro")
    return [next(command for command in PAGE if command.startswith(words)) for words in wanted]
