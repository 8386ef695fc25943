"""The evaluate stage: timed as it is served, and goes on after a kill."""

import time

import pandas as pd
import pytest

from salon.evaluation.latency import LatencyMeter, describe_machine
from salon.evaluation.sampling import BatchSampler
from salon.files import read_json
from salon.inference.mlflow_model import ServedModel
from salon.stages import evaluate
from workspaces import NAME, Workspace


def test_what_is_timed_is_what_serves(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[pd.DataFrame] = []
    real = ServedModel.predict

    def predict(self, context, model_input, params=None):
        asked.append(model_input)
        time.sleep(0.05)
        return real(self, context, model_input, params)

    monkeypatch.setattr(ServedModel, "predict", predict)
    stopwatch = LatencyMeter(workspace.paths, NAME, ["an owl", "a pizza", "ракета"], repeats=4)
    speed = stopwatch.time_own()
    assert 50 < speed["latency_ms_p50"] <= speed["latency_ms_p95"]
    assert speed["images_per_second_b16"] < 16 / 0.05
    rows = pd.concat(asked)
    assert set(rows["prompt"]) == {"an owl", "a pizza", "ракета"}
    assert not rows.duplicated().any()  # nothing is answered from memory
    assert {len(request) for request in asked} == {1, 16}


def test_the_machine_and_the_worst_pictures_are_told(workspace: Workspace) -> None:
    metrics = read_json(workspace.paths.metrics(NAME))
    assert {key: metrics["cost"][key] for key in ("device", "cpu_cores")} == describe_machine()
    assert metrics["cost"]["picture_flops"] > 0
    rows = read_json(workspace.paths.samples(NAME) / "worst.json")
    assert rows
    assert (workspace.paths.samples(NAME) / "worst.png").is_file()


def test_a_killed_evaluation_does_nothing_twice(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    kill_at: int | None = 2
    real = BatchSampler.draw

    def draw(self, prompts, *, repeat=0):
        if kill_at is not None and len(drawn) == kill_at:
            raise KeyboardInterrupt
        drawn.append(len(prompts))
        return real(self, prompts, repeat=repeat)

    monkeypatch.setattr(BatchSampler, "draw", draw)
    with pytest.raises(KeyboardInterrupt):
        evaluate.run(workspace.params, workspace.paths, NAME)
    kill_at = None
    evaluate.run(workspace.params, workspace.paths, NAME)
    whole = len(drawn)

    # what was kept is let go; other weights would not have found it
    assert not any((workspace.paths.scratch / "evaluate").iterdir())
    drawn.clear()
    evaluate.run(workspace.params, workspace.paths, NAME)
    assert len(drawn) == whole
