"""Ingestion as it really runs: same seed same rows, held-out combinations held out, mistakes named."""

import hashlib
import io
import os
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from salon.data.ingest.images import perceptual_hashes
from salon.data.ingest.worlds import compose, emoji
from salon.data.ingest.worlds.archive import read_artwork
from salon.data.schema import row_id
from salon.data.shards import read_tables
from salon.data.splits import novelty_kind, seen_pairs
from salon.errors import SalonError
from salon.files import read_json
from salon.paths import SPLITS, Paths
from salon.stages import ingest
from tiny import ARCHIVE, TINY_EMOJI, write_tiny_params


@pytest.fixture(scope="module")
def rows(ingested_world):
    table = read_tables(Paths(ingested_world).interim).to_pylist()
    return [row | {"attributes": dict(row["attributes"])} for row in table]


def read(tmp_path, *, seed=1, archive=ARCHIVE, **changes):
    params = write_tiny_params(tmp_path).ingest.settings.model_copy(update=changes)
    return list(emoji.read_rows(params, archive=archive, seed=seed))


def test_every_split_has_the_pictures_asked_for(rows, ingested_world):
    assert Counter(row["split"] for row in rows) == TINY_EMOJI["pictures"]
    report = read_json(Paths(ingested_world).ingest_report)
    assert report["splits"] == TINY_EMOJI["pictures"]
    assert (report["found"], report["ingested"], report["quarantined"]) == (420, 420, 0)


def test_no_two_pictures_have_the_same_pixels(rows):
    pixels = {Image.open(io.BytesIO(row["image"]["bytes"])).tobytes() for row in rows}
    assert len(pixels) == len(rows)


def test_measurements_are_those_of_the_bytes(rows):
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        data = row["image"]["bytes"]
        image = Image.open(io.BytesIO(data))
        assert image.size == (row["width"], row["height"]) == (32, 32)
        assert row["image_sha256"] == hashlib.sha256(data).hexdigest()
        assert row["id"] == row_id(data, row["caption"], row["lang"])
        assert row["licence"]
        assert row["attribution"]
    for row in rows[::40]:
        assert [row["phash"]] == perceptual_hashes(
            [np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))]
        )


def test_novel_holds_exactly_the_held_out_combinations(rows, ingested_world):
    params = write_tiny_params(ingested_world)
    settings = params.ingest.settings
    seen = emoji.plan_world(settings, seed=params.seed)["seen"]
    held_backgrounds = set(product(settings.concepts, settings.backgrounds)) - {(c, b) for c, _, b in seen}
    held_styles = set(product(settings.concepts, settings.styles)) - {(c, s) for c, s, _ in seen}
    assert len(held_backgrounds) == len(held_styles) == 2
    pairs = seen_pairs(row["attributes"] for row in rows if row["split"] == "train")
    kinds = Counter()
    for row in rows:
        attributes = row["attributes"]
        new_background = (attributes["concept"], attributes["background"]) in held_backgrounds
        new_style = (attributes["concept"], attributes["style"]) in held_styles
        assert (new_background + new_style) == (row["split"] == "novel")  # one kind of novelty at a time
        if row["split"] != "train":
            kinds[row["split"], novelty_kind(attributes, pairs)] += 1
    assert kinds == {
        ("val", None): 60,
        ("test", None): 60,
        ("novel", "concept_x_background"): 30,
        ("novel", "concept_x_style"): 30,
    }


def test_both_languages_and_all_values_occur(rows):
    training = [row for row in rows if row["split"] == "train"]
    assert {row["lang"] for row in training} == {"en", "ru"}
    for attribute in ("concept", "style", "background"):
        assert {row["attributes"][attribute] for row in training} == set(TINY_EMOJI[f"{attribute}s"])


def test_rows_depend_on_the_seed_and_on_nothing_else(tmp_path):
    pictures = {"train": 30, "val": 6, "test": 6, "novel": 6}
    first = read(tmp_path, pictures=pictures)
    assert read(tmp_path, pictures=pictures) == first
    other = read(tmp_path, pictures=pictures, seed=2)
    assert not {row.image_bytes for row in first} & {row.image_bytes for row in other}
    # another split grown by one row moves no row
    grown = read(tmp_path, pictures=pictures | {"train": 31})
    assert [row for row in grown if row.split != "train"] == [row for row in first if row.split != "train"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the number of workers follows the CPU set")
def test_rows_do_not_depend_on_the_number_of_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(compose, "CHUNK", 7)  # many tasks, so that workers really share them
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("one CPU only")
    pictures = {"train": 40, "val": 10, "test": 10, "novel": 10}
    many = read(tmp_path, pictures=pictures)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        one = read(tmp_path, pictures=pictures)
    finally:
        os.sched_setaffinity(0, allowed)
    assert one == many
    assert list(dict.fromkeys(row.split for row in one)) == list(SPLITS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"archive": Path("nowhere.parquet")},
            r"nowhere.parquet does not exist: ingest.path must name the emoji archive",
        ),
        ({"concepts": ["owl", "gryphon"]}, r"no picture of 'gryphon' in 'noto'"),
        ({"styles": ["noto", "cubism"]}, r"ingest.emoji.styles: unknown \['cubism'\]; known are"),
        (
            {"backgrounds": ["blue", "plaid", "pink"]},
            r"backgrounds: unknown \['plaid'\]; known are",
        ),
        ({"held_out_concept_background": 12}, r"ingest.emoji: cannot hold out 12 of 4 x 3 combinations"),
    ],
)
def test_mistake_in_params_is_named(tmp_path, changes, message):
    with pytest.raises(SalonError, match=message):
        read(tmp_path, **changes)


def test_archive_that_is_no_parquet_is_named(tmp_path):
    (tmp_path / "emoji.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(SalonError, match=r"emoji.parquet is not a readable emoji archive"):
        read(tmp_path, archive=tmp_path / "emoji.parquet")


def test_failed_ingest_leaves_the_old_rows(tiny_world):
    paths = Paths(tiny_world)
    before = {path.name: path.read_bytes() for path in paths.interim.iterdir()}
    params = write_tiny_params(tiny_world)
    ingest_params = params.ingest.model_copy(update={"path": "nowhere.parquet"})
    with pytest.raises(SalonError):
        ingest.run(params.model_copy(update={"ingest": ingest_params}), paths)
    assert {path.name: path.read_bytes() for path in paths.interim.iterdir()} == before


def test_second_ingest_writes_the_same_bytes(tiny_world):
    paths = Paths(tiny_world)
    before = {path.name: path.read_bytes() for path in paths.interim.iterdir()}
    ingest.run(write_tiny_params(tiny_world), paths)
    assert {path.name: path.read_bytes() for path in paths.interim.iterdir()} == before


def test_no_style_shows_the_drawing_of_another(tmp_path):
    """The archive repeats some drawings under several styles."""
    params = write_tiny_params(tmp_path).ingest.settings
    artwork = read_artwork(ARCHIVE, params, section=emoji.SECTION)
    for concept in params.concepts:
        drawings = {artwork[concept, style].rgba.tobytes() for style in params.styles}
        assert len(drawings) == len(params.styles)
