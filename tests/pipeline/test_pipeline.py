"""The real pipeline, from captions to a registered champion, and what DVC makes of changes to it."""

import hashlib
import re
import shutil
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from pipeline_clone import Clone
from salon.files import read_json
from salon.judging.selection import Selection
from salon.report.wording import percent

pytestmark = pytest.mark.pipeline

UP_TO_DATE = "Data and pipelines are up to date."


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_stage_runs_once(clone: Clone) -> None:
    expected = {"ingest", "validate", "scorer", "train_clip", "sentinels", "compare"}
    expected |= {f"codec@{name}" for name in clone.params.codecs}
    expected |= {
        f"{stage}@{name}"
        for stage in ("train", "select", "evaluate", "register")
        for name in clone.params.methods
    }
    assert set(clone.seconds) == expected


def test_every_method_ends_as_a_registered_champion(clone: Clone) -> None:
    client = MlflowClient(tracking_uri=clone.store)
    for name in clone.params.methods:
        champion = client.get_model_version_by_alias(f"salon-{name}", "champion")
        registration = read_json(clone.paths.registration(name))
        assert (registration["version"], registration["alias"]) == (str(champion.version), "champion")
        training = read_json(clone.paths.method(name) / "training.json")["run_id"]
        assert client.get_run(training).info.status == "FINISHED"


def test_budgets_are_equal_and_shared_stages_are_charged(clone: Clone) -> None:
    budget = clone.params.budget
    for name, raw in clone.params.methods.items():
        ledger = read_json(clone.paths.method(name) / "training.json")
        assert budget.train_flops * (1 - budget.tolerance) <= ledger["train_flops"] <= budget.train_flops
        chain = {"pixels": [], "vqvae": ["codec-vqvae"], "vqgan": ["codec-vqgan", "codec-vqvae"]}
        assert sorted(ledger["shared"]) == ["clip", *chain[raw["codec"]]]
        parts = [ledger["own"], *ledger["shared"].values()]
        assert ledger["train_flops"] == sum(part["train_flops"] for part in parts)


def test_every_figure_is_written_and_the_page_shows_it(clone: Clone) -> None:
    metrics = read_json(clone.paths.metrics("diffusion"))
    assert set(metrics["novel"]) == {"concept_x_background", "concept_x_style"}
    assert metrics["val"]["likeness"].keys() == {"value", "low", "high", "n", "clusters"}
    assert metrics["cost"]["train_flops"] <= clone.params.budget.train_flops
    scorer = read_json(clone.paths.scorer_metrics)["held_out_accuracy"]
    gate = clone.params.scorer.min_accuracy
    assert all(value >= gate for split in scorer.values() for name, value in split.items() if name != "all")
    selection = Selection.load(clone.paths.selection("diffusion"))
    assert len(selection.trials) == clone.params.select.trials
    drawing = read_json(clone.paths.selected("diffusion") / "config.json")["config"]
    assert {name: drawing[name] for name in selection.settings} == selection.settings
    assert metrics["cost"]["selection_flops"] == selection.cost["flops"] > 0
    page = (clone.paths.compare / "index.html").read_text(encoding="utf-8")
    assert percent(metrics["test"]["alignment"]["all"]["value"]) in page
    assert read_json(clone.paths.validation)["verdict"] == "passed"


def test_the_second_run_does_nothing(clone: Clone) -> None:
    output = clone.run("dvc", "repro")
    assert stages_run(output) == []
    assert UP_TO_DATE in output


def test_the_verdict_on_the_data_comes_back_from_the_cache(clone: Clone) -> None:
    page, verdict = clone.paths.data_docs / "index.html", clone.paths.validation
    before = sha256(page), sha256(verdict)
    shutil.rmtree(clone.paths.data_docs)
    verdict.unlink()
    assert "validate" not in stages_run(clone.run("dvc", "repro"))
    assert (sha256(page), sha256(verdict)) == before


def test_a_lost_model_comes_back_from_the_cache(clone: Clone) -> None:
    model = clone.paths.method("diffusion") / "model.safetensors"
    before = sha256(model)
    model.write_bytes(b"a disk that failed")
    assert "models/methods/diffusion" in clone.run("dvc", "status")
    model.unlink()
    clone.run("dvc", "checkout", "--force", "models/methods/diffusion")
    assert sha256(model) == before
    assert UP_TO_DATE in clone.run("dvc", "repro")


def test_a_new_store_learns_what_the_workspace_holds(clone: Clone) -> None:
    for name in ("mlflow.db", "mlartifacts"):
        (clone.root / name).rename(clone.root / f"{name}.lost")
    assert "the registry did not have it" in clone.run("salon", "sync")
    champion = MlflowClient(tracking_uri=clone.store).get_model_version_by_alias(
        "salon-diffusion", "champion"
    )
    assert champion.version
    assert "in step" in clone.run("salon", "sync")
    assert UP_TO_DATE in clone.run("dvc", "repro")
