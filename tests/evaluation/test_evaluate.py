"""The evaluate stage: timed as it is served, goes on after a kill, and turns every knob a method has."""

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
    candidates: list[int] = []
    real = ServedModel.predict

    def predict(self, context, model_input, params=None):
        asked.append(model_input)
        candidates.append(self.model(NAME).method.config.candidates)
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

    assert stopwatch.time_setting("num_inference_steps", 1) > 50
    assert set(candidates) == {1}
    assert stopwatch.time_setting("candidates", 2) > 50
    assert candidates[-1] == 2


def test_every_knob_is_turned_and_the_own_setting_stands_in_each_table(workspace: Workspace) -> None:
    metrics = read_json(workspace.paths.metrics(NAME))
    tradeoff, guidance = read_json(workspace.paths.tradeoff(NAME)), read_json(workspace.paths.guidance(NAME))
    own = read_json(workspace.paths.method(NAME) / "config.json")["config"]
    listed = workspace.params.evaluate.tradeoff
    assert [row["setting"] for row in tradeoff] == sorted(
        {*listed.num_inference_steps, own["num_inference_steps"]}
    )
    assert [row["setting"] for row in guidance] == sorted({*listed.guidance_scale, own["guidance_scale"]})
    for table, knob in ((tradeoff, "num_inference_steps"), (guidance, "guidance_scale")):
        assert {row["argument"] for row in table} == {knob}
        (at_home,) = (row for row in table if row["setting"] == own[knob])
        assert at_home["latency_ms_p50"] == metrics["cost"]["latency_ms_p50"]
        assert all(row["n"] == workspace.params.evaluate.tradeoff_pictures for row in table)
    assert {key: metrics["cost"][key] for key in ("device", "cpu_cores")} == describe_machine()
    rows = read_json(workspace.paths.samples(NAME) / "worst.json")
    assert rows
    assert (workspace.paths.samples(NAME) / "worst.png").is_file()


def test_a_killed_evaluation_does_nothing_twice(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.edit_params("evaluate", tradeoff={"num_inference_steps": [1, 2, 3], "guidance_scale": [1]})
    drawn: list[object] = []
    kill_at: object = {"num_inference_steps": 3}
    real = BatchSampler.draw

    def draw(self, prompts, options=None, *, repeat=0):
        if kill_at is not None and options == kill_at:
            raise KeyboardInterrupt
        drawn.append(options)
        return real(self, prompts, options, repeat=repeat)

    monkeypatch.setattr(BatchSampler, "draw", draw)
    with pytest.raises(KeyboardInterrupt):
        evaluate.run(workspace.params, workspace.paths, NAME)
    assert drawn[-2:] == [{"num_inference_steps": 1}, {"num_inference_steps": 2}]
    drawn.clear()
    kill_at = None
    evaluate.run(workspace.params, workspace.paths, NAME)
    assert drawn == [{"num_inference_steps": 3}, {"guidance_scale": 1}]
    assert [row["setting"] for row in read_json(workspace.paths.tradeoff(NAME))][:3] == [1, 2, 3]

    # what was kept is let go; other weights would not have found it
    assert not any((workspace.paths.scratch / "evaluate").iterdir())
    drawn.clear()
    evaluate.run(workspace.params, workspace.paths, NAME)
    assert None in drawn
