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
from workspaces import COARSE, COARSER, NAME, Workspace


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


def test_champion_worse_better_equal_and_rollback(workspace: Workspace, capsys: pytest.CaptureFixture[str]):
    workspace.retrain(seed=4, scale=COARSE)
    assert workspace.register()["version"] == "1"

    workspace.retrain(seed=5, scale=COARSER)
    worse = workspace.register()
    assert (worse["alias"], worse["promoted"]) == ("challenger", False)
    assert "not shown to be less (p = 1, below 0.03 is needed)" in worse["reason"]
    assert worse["reason"].endswith("attempt 1 on version 1, by 40 new prompts")

    workspace.retrain(seed=1)
    better = workspace.register()
    assert better["promoted"]
    assert "less (p = 0.00" in better["reason"]
    assert better["reason"].endswith("attempt 2 on version 1, by 40 new prompts")
    assert workspace.aliases() == {"champion": "3", "previous": "1", "challenger": "2"}

    workspace.retrain(seed=2)
    equal = workspace.register()
    assert equal["alias"] == "challenger"
    assert equal["reason"].endswith("attempt 1 on version 3, by 40 new prompts")
    assert workspace.aliases() == {"champion": "3", "previous": "1", "challenger": "4"}

    client = workspace.store.client
    claimed = client.get_registered_model(f"salon-{NAME}").tags
    assert [claimed[f"contest.{number}"] for number in (1, 2, 3)] == [
        '{"champion": "1", "challenger": "2"}',
        '{"champion": "1", "challenger": "3"}',
        '{"champion": "3", "challenger": "4"}',
    ]
    run = client.get_run(better["run_id"])
    assert run.data.metrics["contest/likeness_efficientnet-lite0_p"] < 0.01
    assert run.data.metrics["contest/likeness_efficientnet-lite0_gain"] > 0
    found = client.download_artifacts(better["run_id"], "contest-2.json", str(workspace.root))
    assert read_json(Path(found))["contest"]["prompts"] == "40 new prompts"

    # again, unchanged: the same answer, and no new attempt
    assert workspace.register() == equal
    assert client.get_registered_model(f"salon-{NAME}").tags == claimed

    workspace.retrain(seed=1)
    rollback.run(workspace.params, workspace.paths, NAME)
    assert workspace.aliases() == {"champion": "1", "previous": "3", "challenger": "4"}
    assert "version 1 is champion again" in capsys.readouterr().out
    # the same weights again, as `dvc repro` may ask: a rollback is not undone behind one's back
    assert workspace.register()["alias"] == "previous"
    assert workspace.aliases()["champion"] == "1"
    rollback.run(workspace.params, workspace.paths, NAME)
    assert workspace.aliases()["champion"] == "3"


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


def test_another_judge_or_other_prompts_make_another_contest_and_the_rule_does_not(workspace: Workspace):
    workspace.retrain(seed=4, scale=COARSE)
    workspace.register()
    workspace.retrain(seed=1)
    workspace.edit_params("register", alpha=1e-9)
    assert "attempt 1 on version 1" in workspace.register()["reason"]
    rewrite(workspace.paths.scorer / "config.json")
    assert "attempt 2 on version 1" in workspace.register()["reason"]
    workspace.edit_params("register", prompts=30)
    assert workspace.register()["reason"].endswith("attempt 3 on version 1, by 30 new prompts")
    workspace.edit_params("register", alpha=0.05)
    relaxed = workspace.register()
    assert relaxed["promoted"]
    assert relaxed["reason"].endswith("attempt 3 on version 1, by 30 new prompts")


def test_a_champion_whose_files_are_gone_is_replaced_by_what_keeps_the_guardrails(workspace: Workspace):
    workspace.register()
    shutil.rmtree(workspace.root / "mlartifacts" / "models")
    workspace.retrain(seed=5, scale=COARSER)
    found = workspace.register()
    assert found["promoted"]
    assert found["reason"].startswith("the files of version 1 are gone; first champion")


def test_who_cannot_draw_is_not_met_but_can_be_overruled(workspace: Workspace):
    workspace.register()
    (weights,) = (workspace.root / "mlartifacts").rglob("bundle/method/model.safetensors")
    weights.write_bytes(b"damaged")
    workspace.retrain(seed=2)
    refused = workspace.register()
    assert refused["alias"] == "challenger"
    assert "no contest with version 1: the model is damaged" in refused["reason"]
    tags = workspace.store.client.get_registered_model(f"salon-{NAME}").tags
    assert not any(tag.startswith("contest") for tag in tags), "nothing was seen: no attempt"
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
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert workspace.versions() == ["1", "2"]
    # whoever came second was not shown to be better
    assert sorted(workspace.aliases()) == ["challenger", "champion"]
    assert len(set(workspace.aliases().values())) == 2
