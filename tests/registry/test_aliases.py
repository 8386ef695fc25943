"""Versions, aliases and the workspace stay in step, on a real sqlite store."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from salon.commands import rollback, sync
from salon.errors import SalonError
from salon.files import read_json, write_json
from salon.paths import Paths
from salon.stages import register
from salon.tracking import runs
from workspaces import NAME, Workspace


def test_first_registration_is_champion_and_says_all_that_is_known(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
):
    report = workspace.register()
    assert "Failed to validate" not in caplog.text  # MLflow only warns of an input example that fails
    assert report["alias"] == "champion"
    assert report["promoted"]
    assert str(workspace.root) not in str(report)

    client = workspace.store.client
    version = client.get_model_version_by_alias(f"salon-{NAME}", "champion")
    assert version.tags["model_sha256"] == report["model_sha256"]
    assert version.tags["data_sha256"] == read_json(workspace.paths.validation)["data_sha256"]
    assert "first champion" in version.tags["promotion_reason"]
    assert "## Provenance" in version.description
    assert str(version.run_id) == report["run_id"]

    run = client.get_run(report["run_id"])
    assert run.info.status == "FINISHED"
    assert run.data.tags["salon.restored"] == "true"
    assert run.data.params["method.solver"] == "euler"
    judged = read_json(workspace.paths.metrics(NAME))
    assert run.data.metrics["test/alignment_all"] == judged["test"]["alignment"]["all"]["value"]
    for name in (
        "val/alignment_concept_low",
        "test/alignment_ru_all",
        "test/likeness_high",
        "test/r_precision",
        "memorisation/copy_rate",
        "novel/concept_x_style/alignment_style",
        "cost/latency_ms_p50",
        "cost/own.steps",
    ):
        assert name in run.data.metrics
    phrasings = {name for name in run.data.metrics if name.startswith("test/phrasing/")}
    assert phrasings == {f"test/phrasing/{name}/all" for name in judged["test"]["phrasing"]}
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.data.metrics[f"{NAME}/test/alignment_all"] == judged["test"]["alignment"]["all"]["value"]
    assert [entry.dataset.name for entry in run.inputs.dataset_inputs] == ["emoji"]
    images = {artifact.path for artifact in client.list_artifacts(report["run_id"], "images")}
    assert any("evaluate_val" in path for path in images)
    (output,) = run.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert model.experiment_id == workspace.store.experiment_id
    assert "test/alignment_all" in {metric.key for metric in model.metrics}


def test_registered_folder_holds_pinned_requirements_and_weights_without_pickles(
    registered_world: Workspace,
):
    (folder,) = (registered_world.root / "mlartifacts" / "models").glob("*/artifacts")
    requirements = (folder / "requirements.txt").read_text(encoding="utf-8").split()
    assert all(re.fullmatch(r"[a-z-]+==[\d.]+(post\d+)?", line) for line in requirements), requirements
    assert {line.partition("==")[0] for line in requirements} >= {
        "mlflow",
        "torch",
        "transformers",
        "diffusers",
    }
    names = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert not names & {".pkl", ".pickle", ".pt", ".ckpt", ".bin"}
    assert (folder / "artifacts/bundle/method/model.safetensors").is_file()


def test_trained_run_is_logged_into_and_keeps_its_end(workspace: Workspace):
    store = workspace.store
    run_id = runs.find_or_start_run(store, name=NAME, stage="train")
    runs.finish_run(store, run_id)
    ended = store.client.get_run(run_id).info.end_time
    ledger = workspace.paths.selected(NAME) / "training.json"
    write_json(ledger, {**read_json(ledger), "run_id": run_id})

    assert workspace.register()["run_id"] == run_id
    run = store.client.get_run(run_id)
    assert run.info.end_time == ended
    assert "salon.restored" not in run.data.tags


def test_registering_again_changes_nothing(workspace: Workspace):
    first = workspace.register()
    runs_before = len(workspace.store.client.search_runs([workspace.store.experiment_id]))
    assert workspace.register() == first
    assert workspace.versions() == ["1"]
    assert len(workspace.store.client.search_runs([workspace.store.experiment_id])) == runs_before


def test_champion_tie_worse_better_and_rollback(workspace: Workspace, capsys: pytest.CaptureFixture[str]):
    workspace.retrain(seed=1, right=0.5)
    assert workspace.register()["version"] == "1"

    workspace.retrain(seed=2, right=0.5)
    tie = workspace.register()
    assert (tie["alias"], tie["promoted"]) == ("challenger", False)
    assert "0.95 is needed" in tie["reason"]

    workspace.retrain(seed=3, right=0.2)
    assert workspace.register()["alias"] == "challenger"
    assert workspace.aliases() == {"champion": "1", "challenger": "3"}

    workspace.retrain(seed=4, right=0.9)
    better = workspace.register()
    assert better["promoted"]
    assert "better with probability 0.99" in better["reason"]
    assert workspace.aliases() == {"champion": "4", "previous": "1", "challenger": "3"}

    rollback.run(workspace.params, workspace.paths, NAME)
    assert workspace.aliases() == {"champion": "1", "previous": "4", "challenger": "3"}
    assert "version 1 is champion again" in capsys.readouterr().out
    # the same weights again, as `dvc repro` may ask: a rollback is not undone behind one's back
    assert workspace.register()["alias"] == "previous"
    assert workspace.aliases()["champion"] == "1"
    rollback.run(workspace.params, workspace.paths, NAME)
    assert workspace.aliases()["champion"] == "4"


def test_rollback_without_previous_says_so(workspace: Workspace):
    with pytest.raises(SalonError, match="no champion"):
        rollback.run(workspace.params, workspace.paths, NAME)
    workspace.register()
    with pytest.raises(SalonError, match="no previous champion"):
        rollback.run(workspace.params, workspace.paths, NAME)
    with pytest.raises(SalonError, match="unknown method"):
        rollback.run(workspace.params, workspace.paths, "nonesuch")


def test_slow_model_waits_until_the_rule_is_relaxed(workspace: Workspace):
    workspace.edit_params("register", max_latency_ms=0.001)
    slow = workspace.register()
    assert slow["alias"] == "challenger"
    assert "latency" in slow["reason"]
    workspace.edit_params("register", max_latency_ms=10_000)
    assert workspace.register()["alias"] == "champion"
    assert workspace.aliases() == {"champion": "1"}


def test_why_a_version_does_not_serve_stands_in_its_tags(workspace: Workspace):
    sentinels, metrics = workspace.paths.sentinels, workspace.paths.metrics(NAME)
    judged = read_json(metrics)
    write_json(sentinels, {"passed": False, "broken": "test/likeness", "rules": []})
    judged["memorisation"]["copy_rate"]["value"] = 0.4
    write_json(metrics, judged)
    assert workspace.register()["alias"] == "challenger"
    tags = workspace.store.client.get_model_version(f"salon-{NAME}", "1").tags
    assert tags["promoted"] == "false"
    assert "sentinel" in tags["promotion_reason"]
    assert "40.0% of the pictures are copies" in tags["promotion_reason"]

    write_json(sentinels, {"passed": True, "broken": "", "rules": []})
    judged["memorisation"]["copy_rate"]["value"] = 0.0
    write_json(metrics, judged)
    assert workspace.register()["alias"] == "champion"
    tags = workspace.store.client.get_model_version(f"salon-{NAME}", "1").tags
    assert (tags["promoted"], tags["promotion_reason"][:14]) == ("true", "first champion")


def rewrite(config: Path) -> None:
    """Another file, the same network: to the registry another judge."""
    config.write_text(config.read_text(encoding="utf-8") + "\n", encoding="utf-8")


def test_another_judge_judges_the_champion_again(workspace: Workspace):
    true_share = read_json(workspace.paths.metrics(NAME))["val"]["alignment"]["all"]["value"]
    workspace.retrain(seed=1, right=0.5)  # the weights that were really judged, under other verdicts
    workspace.register()
    workspace.retrain(seed=2, right=1.0)
    rewrite(workspace.paths.scorer / "config.json")
    better = workspace.register()
    assert better["promoted"]
    assert f"against the champion's {true_share:.1%}" in better["reason"]
    assert better["reason"].endswith("version 1 was judged again")

    workspace.retrain(seed=3, right=0.0)
    rewrite(workspace.paths.scorer / "config.json")
    worse = workspace.register()
    assert worse["alias"] == "challenger"
    assert worse["reason"].endswith("0.95 is needed; version 2 was judged again")


def test_what_cannot_be_judged_again_is_not_compared_but_can_be_overruled(workspace: Workspace):
    workspace.register()
    (weights,) = (workspace.root / "mlartifacts").rglob("bundle/method/model.safetensors")
    weights.write_bytes(b"damaged")
    workspace.retrain(seed=2, right=1.0)
    rewrite(workspace.paths.scorer / "config.json")
    refused = workspace.register()
    assert refused["alias"] == "challenger"
    assert "cannot be judged again: the model is damaged" in refused["reason"]
    register.run(workspace.params, workspace.paths, NAME, promote=True)
    assert workspace.aliases() == {"champion": "2", "previous": "1"}
    assert read_json(workspace.paths.registration(NAME))["reason"] == "promoted by hand"


def test_sync_restores_what_the_store_lost(workspace: Workspace, capsys: pytest.CaptureFixture[str]):
    workspace.register()
    report = workspace.paths.registration(NAME).read_bytes()
    sync.run(workspace.params, workspace.paths)
    assert "in step, version 1 (champion)" in capsys.readouterr().out

    shutil.rmtree(workspace.root / "mlartifacts")
    sync.run(workspace.params, workspace.paths)
    assert "files of version 1 are gone" in capsys.readouterr().out
    assert workspace.aliases()["champion"] == "2"
    assert workspace.paths.registration(NAME).read_bytes() == report  # DVC's, not sync's

    shutil.rmtree(workspace.paths.selected(NAME))
    sync.run(workspace.params, workspace.paths)
    assert "not trained here" in capsys.readouterr().out


def test_sync_after_the_store_was_deleted(workspace: Workspace):
    workspace.register()
    (workspace.root / "mlflow.db").unlink()
    command = [sys.executable, "-m", "salon", "sync"]  # a new process: MLflow keeps deleted stores open
    restored = subprocess.run(command, cwd=workspace.root, capture_output=True, text=True, check=True)
    assert "the registry did not have it" in restored.stdout
    started = time.perf_counter()
    again = subprocess.run(command, cwd=workspace.root, capture_output=True, text=True, check=True)
    print(f"a sync with nothing to do took {time.perf_counter() - started:.1f} s")
    assert "salon-diffusion: in step, version 1 (champion)" in again.stdout.splitlines()


def test_moved_workspace_is_told_apart(workspace: Workspace):
    workspace.register()
    moved = workspace.root.with_name("moved")
    workspace.root.rename(moved)
    with pytest.raises(SalonError, match="moved or copied"):
        runs.open_store(
            workspace.params if workspace.root.exists() else Workspace(moved).params, Paths(moved)
        )


@pytest.mark.parametrize(
    ("missing", "stage"),
    [
        ("models/selected/diffusion/training.json", "select"),
        ("models/selected/diffusion/model.safetensors", "select"),
        ("reports/metrics/diffusion.json", "evaluate"),
        ("reports/samples/diffusion/val.json", "evaluate"),
        ("reports/validation.json", "validate"),
        ("reports/sentinels.json", "sentinels"),
    ],
)
def test_missing_input_names_its_stage(workspace: Workspace, missing: str, stage: str):
    (workspace.root / missing).unlink()
    with pytest.raises(SalonError, match=f"dvc repro {stage}|{stage} stage"):
        workspace.register()
    assert not (workspace.root / "mlflow.db").exists()


def test_two_processes_at_once_leave_one_champion_and_both_versions(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
):
    other = Workspace(workspace.root.with_name("other"))
    shutil.copytree(workspace.root, other.root)
    other.retrain(seed=2)
    store = workspace.root.parent / "shared.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")  # fresh: both must create it
    command = [sys.executable, "-m", "salon", "register", NAME]
    processes = [
        subprocess.Popen(command, cwd=each.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for each in (workspace, other)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert workspace.versions() == ["1", "2"]
    # verdicts are the same: whoever came second is a tie
    assert sorted(workspace.aliases()) == ["challenger", "champion"]
    assert len(set(workspace.aliases().values())) == 2
