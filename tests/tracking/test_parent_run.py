"""Runs that belong to one run of the pipeline have one parent, on a real sqlite store."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from salon.files import write_json
from salon.params import Params
from salon.paths import Paths
from salon.tracking import runs
from salon.tracking.parent_run import log_headlines, pipeline_tags
from tiny import write_tiny_params


@pytest.fixture
def paths(ingested_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    shutil.copytree(ingested_world, tmp_path, dirs_exist_ok=True)
    paths = Paths(tmp_path)
    write_json(paths.validation, {"verdict": "passed", "data_sha256": "ab" * 32})
    return paths


def start(store: runs.Store, params: Params, paths: Paths, name: str, run_id: str | None = None) -> str:
    tags = pipeline_tags(store, params, paths)
    return runs.find_or_start_run(store, name=name, stage="train", run_id=run_id, tags=tags)


def parent_of(store: runs.Store, run_id: str) -> str:
    return store.client.get_run(run_id).data.tags[MLFLOW_PARENT_RUN_ID]


def test_methods_are_children_of_one_parent_and_a_resumed_one_stays(paths: Paths) -> None:
    params = write_tiny_params(paths.root)
    store = runs.open_store(params, paths)
    gan, diffusion = (start(store, params, paths, name) for name in ("gan", "diffusion"))
    runs.finish_run(store, gan, "KILLED")
    assert start(store, params, paths, "gan", run_id=gan) == gan
    assert parent_of(store, gan) == parent_of(store, diffusion) not in (gan, diffusion)

    parent = store.client.get_run(parent_of(store, gan))
    assert parent.info.status == "FINISHED"  # a kill leaves nothing running
    assert parent.data.params["seed"] == str(params.seed)
    assert parent.data.params["methods.gan.codec"] == "pixels"
    assert [entry.dataset.name for entry in parent.inputs.dataset_inputs] == ["emoji"]
    children = store.client.search_runs(
        [store.experiment_id], filter_string=f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent.info.run_id}'"
    )
    assert {run.info.run_id for run in children} == {gan, diffusion}


def test_other_rows_or_settings_are_another_pipeline_run(paths: Paths) -> None:
    params = write_tiny_params(paths.root)
    store = runs.open_store(params, paths)
    first = parent_of(store, start(store, params, paths, "gan"))
    other_seed = params.model_copy(update={"seed": params.seed + 1})
    second = parent_of(store, start(store, other_seed, paths, "gan"))
    write_json(paths.validation, {"verdict": "passed", "data_sha256": "cd" * 32})
    third = parent_of(store, start(store, params, paths, "gan"))
    assert len({first, second, third}) == 3


def test_trainings_that_start_at_once_have_one_parent(paths: Paths) -> None:
    params = write_tiny_params(paths.root)
    store = runs.open_store(params, paths)
    with ThreadPoolExecutor(4) as pool:
        started = list(pool.map(lambda name: start(store, params, paths, name), "abcd"))
    assert len({parent_of(store, run_id) for run_id in started}) == 1


def test_the_parent_shows_the_methods_side_by_side(paths: Paths) -> None:
    params = write_tiny_params(paths.root)
    store = runs.open_store(params, paths)
    for name, share in (("gan", 0.9), ("dalle", 0.8)):
        figures = {"test/alignment_all": share, "val/alignment_all": 0.1, "test/alignment_style": 0.2}
        run_id = start(store, params, paths, name)
        log_headlines(store, run_id, name, figures, step=5)
    parent = store.client.get_run(parent_of(store, run_id))
    assert parent.data.metrics == {"gan/test/alignment_all": 0.9, "dalle/test/alignment_all": 0.8}

    stray = runs.find_or_start_run(store, name="x", stage="train")  # of a store that lost the parent
    log_headlines(store, stray, "gan", {"test/likeness": 1.0}, step=5)
    assert "gan/test/likeness" not in store.client.get_run(parent.info.run_id).data.metrics
