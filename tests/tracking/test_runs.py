"""Runs on a real sqlite store: found again, written twice, opened by several processes at once."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from salon.errors import SalonError
from salon.files import write_json
from salon.params import Params, load_params
from salon.paths import Paths
from salon.tracking import runs

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def params() -> Params:
    return load_params(REPOSITORY / "params.yaml")


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return Paths(tmp_path)


@pytest.fixture
def store(params: Params, paths: Paths) -> runs.Store:
    return runs.open_store(params, paths)


def test_import_is_light():
    code = (
        "import sys, salon.tracking.runs; print([m for m in ('torch', 'mlflow.pytorch') if m in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_store_is_the_workspace_s_own_wherever_one_stands(
    params: Params, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    store = runs.open_store(params, Paths(Path("..")))
    assert store.uri == runs.tracking_uri(paths) == f"sqlite:///{tmp_path.as_posix()}/mlflow.db"
    experiment = store.client.get_experiment(store.experiment_id)
    assert experiment.artifact_location == (tmp_path / "mlartifacts").as_uri()
    assert experiment.name == params.experiment
    assert list(elsewhere.iterdir()) == []


def test_artifacts_outlive_the_folder_of_a_queued_experiment(
    params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'sweep.db'}")
    store = runs.open_store(params, Paths(tmp_path / "temporary"))
    experiment = store.client.get_experiment(store.experiment_id)
    assert experiment.artifact_location == (tmp_path / "mlartifacts").as_uri()


@pytest.mark.parametrize(
    ("uri", "public"),
    [
        ("sqlite:////home/someone/salon/mlflow.db", "sqlite:///mlflow.db"),
        ("https://me:secret@tracking.example/mlflow", "https://tracking.example/mlflow"),
        ("http://localhost:5000", "http://localhost:5000"),
    ],
)
def test_public_uri_keeps_secrets_and_places_to_itself(uri: str, public: str):
    assert runs.public_uri(uri) == public


def test_run_is_resumed_where_the_store_knows_it(store: runs.Store):
    run_id = runs.find_or_start_run(store, name="diffusion", stage="train", tags={"a": "1"})
    runs.finish_run(store, run_id, "KILLED")
    again = runs.find_or_start_run(store, name="diffusion", stage="train", run_id=run_id, tags={"a": "2"})
    run = store.client.get_run(run_id)
    assert again == run_id
    assert run.info.status == "RUNNING"
    assert (run.data.tags["salon.stage"], run.data.tags["a"]) == ("train", "2")

    store.client.delete_run(run_id)
    for unknown in (run_id, "0" * 32, "no id at all"):
        assert runs.find_or_start_run(store, name="x", stage="train", run_id=unknown) != run_id


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_run_ends_with_its_block_and_can_be_taken_up_again(store: runs.Store, error: type[BaseException]):
    stage = runs.run(store, name="x", stage="train", tags={"a": "1"})
    run = stage.__enter__()
    run.log_params({"seed": 1, "method": {"lr": 2}})
    assert not stage.__exit__(error, error(), None)
    assert store.client.get_run(run.id).info.status == "FAILED"
    with runs.run(store, name="x", stage="train", run_id=run.id) as again:
        assert store.client.get_run(again.id).info.status == "RUNNING"
        again.log_params({"method.lr": 2})
        again.log_metrics({"train/velocity": 0.5}, step=3)
        again.log_tags({"b": "2"})
    found = store.client.get_run(run.id)
    assert (again.id, found.info.status) == (run.id, "FINISHED")
    assert found.data.params == {"seed": "1", "method.lr": "2"}
    assert found.data.metrics == {"train/velocity": 0.5}
    assert (found.data.tags["a"], found.data.tags["b"]) == ("1", "2")


def test_params_beyond_mlflow_s_limits_and_a_second_time(store: runs.Store):
    run_id = runs.find_or_start_run(store, name="x", stage="train")
    many = {f"key.{i}": i for i in range(250)} | {"long": "x" * 7000, "list": [1, 2], "none": None}
    runs.Run(store, run_id).log_params(many)
    runs.Run(store, run_id).log_params(many)
    logged = store.client.get_run(run_id).data.params
    assert len(logged) == 253
    assert logged["list"] == "[1, 2]"
    assert len(logged["long"]) == 6000
    with pytest.raises(SalonError, match=r"started with key\.3 = 3, now it is 4"):
        runs.Run(store, run_id).log_params(many | {"key.3": 4})


def test_metrics_and_grids(store: runs.Store):
    run_id = runs.find_or_start_run(store, name="x", stage="train")
    for step in (1, 2):
        runs.Run(store, run_id).log_metrics({"train/velocity": 1 / step}, step=step)
        runs.Run(store, run_id).log_grid("train_grid", Image.new("RGB", (8, 8)), step=step)
    history = store.client.get_metric_history(run_id, "train/velocity")
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 0.5)]
    images = [artifact.path for artifact in store.client.list_artifacts(run_id, "images")]
    assert sum(path.endswith(".png") for path in images) == 2
    with pytest.raises(ValueError, match="image key"):
        runs.Run(store, run_id).log_grid("train/grid=1", Image.new("RGB", (8, 8)), step=1)


def test_dataset_lineage_once_however_often_logged(params: Params, ingested_world: Path, paths: Paths):
    shutil.copytree(ingested_world, paths.root, dirs_exist_ok=True)
    write_json(paths.validation, {"verdict": "passed", "data_sha256": "ab" * 32})
    store = runs.open_store(params, paths)
    run_id = runs.find_or_start_run(store, name="x", stage="train")
    for _ in range(2):
        runs.Run(store, run_id).log_dataset(paths)
    (entry,) = store.client.get_run(run_id).inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("emoji", ("ab" * 32)[:36])
    assert json.loads(entry.dataset.source) == {"uri": "data/interim"}
    assert json.loads(entry.dataset.profile) == {
        "num_rows": 420,
        "train": 240,
        "val": 60,
        "test": 60,
        "novel": 60,
    }
    assert {"id", "image", "caption"} <= {
        c["name"] for c in json.loads(entry.dataset.schema)["mlflow_colspec"]
    }
    assert [(tag.key, tag.value) for tag in entry.tags] == [("mlflow.data.context", "training")]


def test_dataset_lineage_needs_validated_rows(store: runs.Store, paths: Paths):
    run_id = runs.find_or_start_run(store, name="x", stage="train")
    with pytest.raises(SalonError, match="validate"):
        runs.Run(store, run_id).log_dataset(paths)


@pytest.mark.parametrize("uri", ["http://127.0.0.1:9", "http://me:secret@nowhere.invalid:5000"])
def test_nobody_answers_is_told_quickly_and_without_the_password(
    params: Params, paths: Paths, monkeypatch: pytest.MonkeyPatch, uri: str
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    started = time.monotonic()
    with pytest.raises(SalonError, match="nobody answers there") as error:
        runs.open_store(params, paths)
    assert time.monotonic() - started < 15
    assert "secret" not in str(error.value)


def test_unusable_store_is_told(params: Params, paths: Paths, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", str(paths.root / "mlruns"))
    with pytest.raises(SalonError, match="cannot be used"):
        runs.open_store(params, paths)


def test_several_processes_open_a_fresh_store_at_once(paths: Paths):
    code = f"""
from pathlib import Path
from salon.params import load_params
from salon.paths import Paths
from salon.tracking import runs
params = load_params(Path({str(REPOSITORY / "params.yaml")!r}))
store = runs.open_store(params, Paths(Path({str(paths.root)!r})))
print(runs.find_or_start_run(store, name="x", stage="train"))
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    outputs = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    assert len({output for output, _ in outputs}) == 4


def test_flatten():
    assert runs.flatten({"a": {"b": 1, "c": {"d": [2, 3]}}, "e": None, "f": {}}) == {
        "a.b": 1,
        "a.c.d": [2, 3],
        "e": None,
    }


def test_git_commit_is_marked_where_files_differ(tmp_path: Path):
    assert runs.git_commit(tmp_path) is None

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "params.yaml").write_text("a: 1\n", encoding="utf-8")
    (tmp_path / "reports").mkdir()
    own = (tmp_path / "dvc.lock", tmp_path / "reports" / "ingest.json")  # the pipeline's own bookkeeping
    for path in own:
        path.write_text("1\n", encoding="utf-8")
    git("add", ".")
    git("commit", "-m", "first")
    commit = runs.git_commit(tmp_path)
    assert commit is not None
    assert len(commit) == 40
    for path in own:
        path.write_text("2\n", encoding="utf-8")
    assert runs.git_commit(tmp_path) == commit
    (tmp_path / "params.yaml").write_text("a: 2\n", encoding="utf-8")
    assert runs.git_commit(tmp_path) == f"{commit}-dirty"
