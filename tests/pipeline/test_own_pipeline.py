"""Somebody's own drawings, in two languages and without attributes: every stage takes them."""

import base64
import shutil
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
import pytest
import yaml

from export_emoji import export
from own_pictures import ingest_own
from salon.commands import recommend
from salon.data.dataset import Dataset
from salon.errors import SalonError
from salon.evaluation.prompts import prompts_per_split
from salon.files import read_json
from salon.judging.record import Gate
from salon.params import Params, load_params
from salon.paths import Paths
from salon.report.recommend import Constraints
from salon.stages import compare, evaluate, register, scorer, select, sentinels, train, validate
from salon.stages import train_clip as clip
from salon.tracking import runs
from tiny import REPOSITORY

SECTION = {
    "fit": "pad",
    "columns": {
        "caption": {"en": "text", "ru": "text_ru"},
        "licence": "licence",
        "attribution": "attribution",
    },
    "splits": {"val": 0.2, "test": 0.3},
}
SMALL = {
    "validate": {"min_rows": 20},
    "scorer": {"max_steps": 1, "retriever": {"max_steps": 3, "width": 8}},
    "clip": {"max_steps": 2, "text_width": 32, "text_layers": 1, "image_channels": [8], "projection_dim": 16},
    "budget": {"train_flops": 3.0e9},
    "select": {"trials": 2, "pictures": 8},
    "evaluate": {
        "pictures": 20,
        "latency_repeats": 3,
        "bootstrap_samples": 100,
    },
    "register": {"max_latency_ms": 60_000},  # a busy machine is no matter here
}
METHOD = {
    "family": "diffusion",
    "codec": "pixels",
    "batch_size": 4,
    "lr": 1.0e-3,
    "channels": [16, 16],
    "blocks_per_level": 1,
    "condition_width": 32,
    "num_inference_steps": 2,
}
DRAWINGS = 260  # what is held out, prompts apart, must be enough for the copy test


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own")
    assert export("noto", root / "drawings", limit=DRAWINGS) == DRAWINGS
    found = ingest_own(root, "imagefolder", root / "drawings", section=SECTION)
    assert found.report["found"] == 2 * DRAWINGS
    assert {row["lang"] for row in found.rows} == {"en", "ru"}
    assert {row["licence"] for row in found.rows} == {"Apache-2.0"}
    raw = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    for section, values in SMALL.items():
        for key, value in values.items():
            raw[section][key] = raw[section][key] | value if isinstance(value, dict) else value
    raw |= {"codecs": {}, "methods": {"diffusion": METHOD}}
    (root / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def params(root: Path) -> Params:
    return load_params(root / "params.yaml")


@pytest.fixture(scope="module")
def prepared(root: Path, params: Params) -> Path:
    """Validated, with a judge and towers of a few steps."""
    for stage in (validate, scorer, clip):
        stage.run(params, Paths(root))
    shutil.copytree(REPOSITORY / "models/codecs/pixels", Paths(root).codec("pixels"))
    return root


def test_an_empty_split_has_pictures_of_the_others_size(root):
    novel = Dataset(Paths(root).interim)["novel"]
    assert len(novel) == 0
    assert novel.images.shape == (0, 3, 32, 32)
    assert novel.attributes == novel.captions == []


def test_a_folder_without_rows_is_named(tmp_path):
    (tmp_path / "drawings").mkdir()
    (tmp_path / "drawings" / "a.png").write_bytes(b"garbage")
    found = ingest_own(tmp_path, "imagefolder", tmp_path / "drawings")
    with pytest.raises(SalonError, match="holds no row: run the ingest stage with a source that has some"):
        Dataset(found.paths.interim)["train"]


def test_validation_passes_with_an_empty_novel_split(prepared):
    checks = {check["name"]: check for check in read_json(Paths(prepared).validation)["checks"]}
    assert checks["enough_rows"]["status"] == "passed"
    assert checks["no_near_duplicates"]["status"] == "passed"
    assert {checks[name]["status"] for name in ("novel_is_novel", "captions_match_attributes")} == {
        "not applicable"
    }


def test_judge_is_trained_without_attributes_and_without_novel_rows(prepared):
    metrics = read_json(Paths(prepared).scorer_metrics)
    assert set(metrics["held_out_r_precision"]) == {"test"}
    assert list(Paths(prepared).scorer.iterdir()) == []


def test_towers_are_trained_without_attributes(prepared):
    metrics = read_json(Paths(prepared).clip_metrics)
    assert metrics["zero_shot"] == {"val": {}, "novel": {}}
    assert np.isfinite(metrics["loss"])


def test_prompts_are_those_of_val_and_test(root):
    assert set(prompts_per_split(Dataset(Paths(root).interim), 10)) == {"val", "test"}


WITHHELD = {"test/density": "test/density: real 1 must be above noise 2"}


@pytest.fixture(scope="module")
def judged(prepared: Path, params: Params) -> Path:
    """A method trained for a few steps and judged, the gate held open: three steps make no judge."""
    paths = Paths(prepared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sentinels, "check_rules", lambda *_, **__: Gate(True, rules=["a rule"], withheld=WITHHELD)
        )
        sentinels.run(params, paths)
    train.run(params, paths, "diffusion")
    select.run(params, paths, "diffusion")
    evaluate.run(params, paths, "diffusion")
    compare.run(params, paths)
    return prepared


def test_a_method_is_judged_by_the_captions_alone(judged, params):
    metrics = read_json(Paths(judged).metrics("diffusion"))
    assert metrics.keys() == {"val", "test", "memorisation", "cost"}
    for split in ("val", "test"):
        assert metrics[split]["alignment"].keys() == {"caption", "all"}
        assert metrics[split]["alignment"]["all"]["value"] == metrics[split]["r_precision"]["value"]
        assert {"alignment_en", "alignment_ru"} <= metrics[split].keys()
    assert 0 < metrics["test"]["density"]["n"] == 20


def test_the_page_withholds_what_says_nothing(judged):
    page = (Paths(judged).compare / "index.html").read_text(encoding="utf-8")
    assert page.count(WITHHELD["test/density"]) == 2
    assert "<td>withheld</td>" in page
    assert "ombinations" not in page


def test_it_is_recommended_and_registered_and_draws_in_both_languages(judged, params, capsys):
    paths = Paths(judged)
    recommend.run(params, paths, Constraints())
    assert "Take diffusion" in capsys.readouterr().out
    register.run(params, paths, "diffusion")
    registered = read_json(paths.registration("diffusion"))
    assert (registered["version"], registered["alias"]) == ("1", "champion")
    assert registered["reason"].startswith("first champion: everything right in ")

    store = runs.open_store(params, paths)
    version = store.client.get_model_version_by_alias("salon-diffusion", "champion")
    logged = store.client.get_run(version.run_id).data.metrics
    assert "test/likeness" in logged
    assert "test/density" not in logged
    model_id = version.source.removeprefix("models:/")
    model = mlflow.pyfunc.load_model(str(judged / "mlartifacts/models" / model_id / "artifacts"))
    rows = model.predict(pd.DataFrame({"prompt": ["red heart", "красное сердце"], "seed": 7}))
    pictures = [base64.b64decode(picture) for picture in rows["image_png_base64"]]
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert pictures[0] != pictures[1]
