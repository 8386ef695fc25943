"""Drawings as they are: each in one split with all its captions, alike ones together, novel words known."""

import io
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from salon.data.ingest.worlds import emoji_pictures
from salon.data.ingest.worlds.archive import read_archive
from salon.data.ingest.worlds.scenes import Artwork
from salon.data.schema import Row
from salon.errors import SalonError
from salon.files import read_json
from salon.params.worlds import EmojiPicturesParams
from salon.paths import Paths
from salon.stages import ingest, validate
from tiny import ARCHIVE, write_world_params

COUNTS = {"train": 1000, "val": 60, "test": 60, "novel": 60}
PARAMS = {"image_size": 32, "styles": ["noto", "noto-v1"], "pictures": COUNTS}


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(emoji_pictures.read_rows(EmojiPicturesParams(**PARAMS), archive=ARCHIVE, seed=1))


def words(caption: str) -> set[str]:
    return set(re.findall(r"\w+", caption.lower()))


def test_every_drawing_has_its_own_caption_in_each_language(rows: list[Row]) -> None:
    assert Counter(row.split for row in rows) == {split: 2 * n for split, n in COUNTS.items()}
    own = {(r["text"], r["text_ru"], r["style_text"]) for r in read_archive(ARCHIVE)}
    for english, russian in zip(rows[::2], rows[1::2], strict=True):
        assert (english.lang, russian.lang) == ("en", "ru")
        assert english.image_bytes == russian.image_bytes
        assert not english.attributes
        text, _, style = english.caption.rpartition(", ")
        assert (text, russian.caption.rpartition(", ")[0], style) in own
        assert Image.open(io.BytesIO(english.image_bytes)).size == (32, 32)


def test_what_looks_alike_stays_together(rows: list[Row]) -> None:
    drawn = rows[::2]
    hashes = np.array([int(row.phash, 16) for row in drawn], dtype=np.uint64)
    splits = np.array([row.split for row in drawn])
    near = np.bitwise_count(hashes[:, None] ^ hashes[None]) < 4
    assert near.sum() > len(drawn), "no two drawings look alike: nothing was tested"
    assert not (near & (splits[:, None] != splits[None])).any()


def test_held_out_drawings_show_things_that_training_shows_otherwise(rows: list[Row]) -> None:
    things: dict[str, set[str]] = defaultdict(set)
    for row in rows[::2]:
        things[row.split].add(row.caption.rpartition(", ")[0])
    assert things["val"] <= things["train"]
    assert things["test"] <= things["train"]


def test_novel_captions_are_new_and_made_of_known_words(rows: list[Row]) -> None:
    training = [row for row in rows if row.split == "train"]
    captions = {row.caption.rpartition(", ")[0] for row in training}
    vocabulary = set().union(*(words(row.caption) for row in training))
    novel = [row for row in rows if row.split == "novel"]
    assert novel
    for row in novel:
        assert row.caption.rpartition(", ")[0] not in captions
        assert words(row.caption) <= vocabulary, row.caption


def test_rows_depend_on_the_seed(rows: list[Row]) -> None:
    groups = emoji_pictures.group_alike(np.arange(8, dtype=np.uint64) << np.uint64(10), distance=2)
    assert len(set(groups)) == 1  # 0 and 1, 0 and 2, 0 and 4 differ in one bit, and so on
    things = [f"{adjective} {noun}" for adjective in "abc" for noun in "xyz"]
    records = [{"text": things[i % 9], "text_ru": things[i % 9].upper()} for i in range(36)]
    counts = {"train": 22, "val": 3, "test": 3, "novel": 8}
    given = [emoji_pictures.assign_drawings(records, np.arange(36), counts, seed=seed) for seed in (1, 1, 2)]
    assert given[0] == given[1] != given[2]
    assert {split: len(drawings) for split, drawings in given[0].items()} == counts


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pictures": COUNTS | {"train": 9999}}, r"pictures asks for 10179 drawings, there are 2929"),
        ({"styles": ["cubism"]}, r"ingest.emoji_pictures.styles: unknown \['cubism'\]"),
        ({"pictures": COUNTS | {"novel": 1500}}, r"pictures.novel: only \d+ drawings have captions made of"),
    ],
)
def test_mistake_in_params_is_named(changes: dict[str, object], message: str) -> None:
    params = EmojiPicturesParams(**PARAMS | {"image_size": 16} | changes)
    with pytest.raises(SalonError, match=message):
        list(emoji_pictures.read_rows(params, archive=ARCHIVE, seed=1))


@pytest.mark.parametrize("size", [32, 64, 96])
def test_a_drawing_is_laid_on_a_plain_backdrop(size: int) -> None:
    rgba = np.zeros((64, 64, 4), dtype=np.uint8)
    rgba[:, :32] = (255, 255, 255, 255)
    artwork = Artwork(rgba, "x", "noto", {}, {}, licence="x", attribution="y")
    pixels = emoji_pictures.render_plain(artwork, image_size=size)
    assert pixels.shape == (size, size, 3)
    assert (pixels[:, : size // 2 - 4] == 255).all()
    assert (pixels[:, size // 2 + 4 :] == emoji_pictures.BACKDROP).all()


def test_ingested_drawings_pass_every_check(tmp_path: Path) -> None:
    counts = {"train": 900, "val": 40, "test": 40, "novel": 30}
    params, paths = (
        write_world_params(
            tmp_path, "emoji_pictures", PARAMS | {"styles": ["noto", "twemoji"], "pictures": counts}
        ),
        Paths(tmp_path),
    )
    ingest.run(params, paths)
    validate.run(params, paths)
    report = read_json(paths.validation)
    assert report["observed"]["rows"] == {split: 2 * n for split, n in counts.items()}
    status = {check["name"]: check["status"] for check in report["checks"]}
    assert status["no_near_duplicates"] == "passed"
    assert status["captions_match_attributes"] == "not applicable"
