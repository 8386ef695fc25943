"""A training killed at any moment goes on where it was, in the same run, to the same weights."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from pipeline_clone import Clone
from salon.commands import smoke
from salon.files import read_json
from salon.paths import Paths

pytestmark = pytest.mark.pipeline

STEPS = 240
TRAIN = [sys.executable, "-m", "salon", "train", "diffusion"]


def prepare(clone: Clone, root: Path) -> Clone:
    """A workspace with everything that training reads, and a small budget."""
    for name in ("src", "data", "models/clip", "models/codecs", "reports/metrics"):
        shutil.copytree(clone.root / name, root / name)
    for name in ("params.yaml", "reports/validation.json", "reports/ingest.json"):
        shutil.copy(clone.root / name, root / name)
    ledger = read_json(clone.paths.method("diffusion") / "training.json")
    step_flops = ledger["own"]["train_flops"] / ledger["own"]["steps"]
    budget = ledger["shared"]["clip"]["train_flops"] + (STEPS + 0.5) * step_flops
    text = (root / "params.yaml").read_text(encoding="utf-8")
    text = re.sub(r"train_flops: \S+", f"train_flops: {json.dumps(budget)}", text)
    text = re.sub(r"checkpoint_every_seconds: \S+", "checkpoint_every_seconds: 1", text)
    (root / "params.yaml").write_text(text, encoding="utf-8")
    return Clone(Paths(root))


def checkpoints(workspace: Clone) -> list[Path]:
    return list((workspace.paths.scratch / "checkpoints").glob("*/last.ckpt"))


def start_and_kill(workspace: Clone) -> None:
    """SIGKILL the training a moment after its first checkpoint."""
    process = subprocess.Popen(
        TRAIN,
        cwd=workspace.root,
        env=smoke.clone_environment(workspace.root),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 300
        while not checkpoints(workspace):
            assert process.poll() is None, "the training ended before its first checkpoint"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)  # some steps beyond the checkpoint are lost
        assert process.poll() is None
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def training_runs(workspace: Clone) -> list[str]:
    client = MlflowClient(tracking_uri=workspace.store)
    (experiment,) = client.search_experiments(filter_string="name = 'salon'")
    found = client.search_runs([experiment.experiment_id], "tags.`salon.stage` = 'train'")
    return [run.info.run_id for run in found]


def losses_by_step(workspace: Clone) -> dict[int, float]:
    (run_id,) = training_runs(workspace)
    history = MlflowClient(tracking_uri=workspace.store).get_metric_history(run_id, "train/model")
    return {loss.step: loss.value for loss in history}


def test_a_killed_training_resumes_to_the_same_weights(clone: Clone, tmp_path: Path) -> None:
    whole, killed = prepare(clone, tmp_path / "whole"), prepare(clone, tmp_path / "killed")
    assert "resuming" not in whole.run("salon", "train", "diffusion")

    start_and_kill(killed)
    assert not (killed.paths.method("diffusion") / "model.safetensors").exists()
    (run_id,) = training_runs(killed)

    output = killed.run("salon", "train", "diffusion")
    resumed = re.search(rf"resuming at step (\d+) of {STEPS}", output)
    assert resumed, output
    assert 0 < int(resumed[1]) < STEPS

    assert training_runs(killed) == [run_id]
    assert MlflowClient(tracking_uri=killed.store).get_run(run_id).info.status == "FINISHED"
    ledgers = [read_json(w.paths.method("diffusion") / "training.json") for w in (killed, whole)]
    assert ledgers[0]["run_id"] == run_id
    assert ledgers[0]["own"]["steps"] == ledgers[1]["own"]["steps"] == STEPS
    weights = [(w.paths.method("diffusion") / "model.safetensors").read_bytes() for w in (killed, whole)]
    assert weights[0] == weights[1]
    assert not checkpoints(killed)  # a finished training leaves nothing to resume
    logged = [losses_by_step(workspace) for workspace in (killed, whole)]
    every = killed.params.training.log_every_steps
    assert sorted(logged[0]) == list(range(every - 1, STEPS, every))
    assert logged[0] == logged[1]


def test_other_settings_do_not_resume(clone: Clone, tmp_path: Path) -> None:
    workspace = prepare(clone, tmp_path / "workspace")
    start_and_kill(workspace)
    text = workspace.paths.params.read_text(encoding="utf-8")
    workspace.paths.params.write_text(
        re.sub(r"^seed: \d+", "seed: 7", text, flags=re.MULTILINE), encoding="utf-8"
    )
    assert "resuming" not in workspace.run("salon", "train", "diffusion")
    assert len(training_runs(workspace)) == 2
