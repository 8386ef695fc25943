"""Somebody's own drawings, in two languages and without attributes: what comes after ingestion takes them."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from export_emoji import export
from own_pictures import ingest_own

from salon.data.loader import load_split
from salon.errors import SalonError
from salon.jsonfile import read_json
from salon.params import Params, load_params
from salon.paths import Paths
from salon.stages import clip, scorer, validate
from salon.stages.evaluate import choose_prompts

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
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own")
    assert export("noto", root / "drawings", limit=150) == 150
    found = ingest_own(root, "imagefolder", root / "drawings", section=SECTION)
    assert found.report["found"] == 300
    assert {row["lang"] for row in found.rows} == {"en", "ru"}
    assert {row["licence"] for row in found.rows} == {"Apache-2.0"}
    raw = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    for section, values in SMALL.items():
        raw[section] |= values
    (root / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    return root


@pytest.fixture
def params(root: Path) -> Params:
    return load_params(root / "params.yaml")


def test_an_empty_split_has_pictures_of_the_others_size(root):
    novel = load_split(Paths(root).interim, "novel")
    assert len(novel) == 0
    assert novel.images.shape == (0, 3, 32, 32)
    assert novel.attributes == novel.captions == []


def test_a_folder_without_rows_is_named(tmp_path):
    (tmp_path / "drawings").mkdir()
    (tmp_path / "drawings" / "a.png").write_bytes(b"garbage")
    found = ingest_own(tmp_path, "imagefolder", tmp_path / "drawings")
    with pytest.raises(SalonError, match="holds no row: run the ingest stage with a source that has some"):
        load_split(found.paths.interim, "train")


def test_validation_passes_with_an_empty_novel_split(root, params):
    validate.run(params, Paths(root))
    checks = {check["name"]: check for check in read_json(Paths(root).validation)["checks"]}
    assert checks["enough_rows"]["status"] == "passed"
    assert checks["no_near_duplicates"]["status"] == "passed"
    assert {checks[name]["status"] for name in ("novel_is_novel", "captions_match_attributes")} == {
        "not applicable"
    }


def test_judge_is_trained_without_attributes_and_without_novel_rows(root, params):
    scorer.run(params, Paths(root))
    metrics = read_json(Paths(root).scorer_metrics)
    assert set(metrics["held_out_r_precision"]) == {"test"}
    assert list(Paths(root).scorer.iterdir()) == []


def test_towers_are_trained_without_attributes(root, params):
    clip.run(params, Paths(root))
    metrics = read_json(Paths(root).clip_metrics)
    assert metrics["zero_shot"] == {"val": {}, "novel": {}}
    assert np.isfinite(metrics["loss"])


def test_prompts_are_those_of_val_and_test(root):
    assert set(choose_prompts(Paths(root), 10)) == {"val", "test"}
