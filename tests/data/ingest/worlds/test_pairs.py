"""Two things in one scene: pictures show what captions say, in both languages; what is held out stays out."""

import io
from collections import Counter
from itertools import combinations, permutations, product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from salon.data.ingest.worlds import emoji_pairs
from salon.data.ingest.worlds.archive import read_archive
from salon.data.ingest.worlds.pairs import (
    NOUNS,
    PAIR_PHRASINGS,
    RELATIONS,
    SIDES,
    PairBook,
    count_phrasings,
    render_pair,
    write_pair_caption,
)
from salon.data.ingest.worlds.scenes import Artwork
from salon.data.schema import Row
from salon.data.splits import hold_out_partners, novelty_kind, seen_pairs
from salon.errors import SalonError
from salon.files import read_json
from salon.params.worlds import EmojiPairsParams
from salon.paths import Paths
from salon.stages import ingest, validate
from tiny import ARCHIVE, write_world_params

PARAMS = {
    "image_size": 32,
    "concepts": ["duck", "owl", "pizza", "ring", "rocket"],
    "styles": ["noto", "twemoji"],
    "backgrounds": ["blue", "yellow"],
    "pictures": {"train": 500, "val": 50, "test": 50, "novel": 50},
    "held_out_concept_relation": 2,
    "held_out_concept_other": 1,
}


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return list(emoji_pairs.read_rows(EmojiPairsParams(**PARAMS), archive=ARCHIVE, seed=1))


def describe(relation: str, *, concept: str = "duck", other: str = "ring") -> dict[str, str]:
    return {"concept": concept, "other": other, "relation": relation, "background": "blue"}


@pytest.mark.parametrize(
    ("attributes", "lang", "phrasing", "caption"),
    [
        (describe("left_of"), "en", 0, "a big duck left of a small ring on a blue background"),
        (describe("left_of"), "en", 1, "a small ring right of a big duck on a blue background"),
        (describe("above"), "en", 2, "a blue background with a big duck above a small ring"),
        (describe("below"), "en", 4, "below a small ring there is a big duck, blue background"),
        (describe("below"), "en", 5, "above a big duck there is a small ring, blue background"),
        (describe("left_of"), "ru", 0, "большая утка слева от маленького кольца на голубом фоне"),
        (describe("left_of"), "ru", 1, "маленькое кольцо справа от большой утки на голубом фоне"),
        (describe("above"), "ru", 0, "большая утка над маленьким кольцом на голубом фоне"),
        (describe("above"), "ru", 3, "на голубом фоне маленькое кольцо под большой уткой"),
        (describe("below"), "ru", 4, "под маленьким кольцом — большая утка, на голубом фоне"),
        (
            describe("right_of", concept="sun", other="rocket"),
            "ru",
            0,
            "большое солнце справа от маленькой ракеты на голубом фоне",
        ),
        (
            describe("below", concept="key", other="owl"),
            "ru",
            0,
            "большой ключ под маленькой совой на голубом фоне",
        ),
    ],
)
def test_captions_as_a_person_would_write_them(attributes, lang: str, phrasing: int, caption: str) -> None:
    assert write_pair_caption(attributes, lang=lang, phrasing=phrasing) == caption


def test_every_noun_is_the_archives_and_declined_by_its_gender() -> None:
    names = {record["text"]: record["text_ru"] for record in read_archive(ARCHIVE)}
    endings = {"f": (("а", "я"), ("ы", "и"), ("ой", "ей")), "m": ((), ("а", "я"), ("ом", "ем"))}
    endings["n"] = (("о", "е"), ("а", "я"), ("ом", "ем"))
    for concept, noun in NOUNS.items():
        assert names[concept] == noun.nominative
        forms = (noun.nominative, noun.genitive, noun.instrumental)
        for form, allowed in zip(forms, endings[noun.gender], strict=True):
            assert not allowed or form.endswith(allowed), form


def test_every_caption_tells_every_attribute() -> None:
    """All that a row claims, said in all ways: no two meanings share a caption."""
    meanings: dict[tuple[str, str], tuple[str, ...]] = {}
    for concept, other in permutations(list(NOUNS)[:6], 2):
        for relation in RELATIONS:
            attributes = describe(relation, concept=concept, other=other)
            for lang in PAIR_PHRASINGS:
                for number in range(count_phrasings(lang)):
                    caption = write_pair_caption(attributes, lang=lang, phrasing=number)
                    meaning = tuple(attributes.values())
                    assert meanings.setdefault((lang, caption), meaning) == meaning
    assert len(meanings) == 6 * 5 * 4 * 2 * 6


def block(colour: tuple[int, int, int]) -> Artwork:
    pixels = np.empty((64, 64, 4), dtype=np.uint8)
    pixels[...] = (*colour, 255)
    return Artwork(pixels, "duck", "noto", {}, {}, licence="x", attribution="y")


@pytest.mark.parametrize("relation", RELATIONS)
def test_pictures_show_what_the_attributes_say(relation: str) -> None:
    """On plain blocks: centres lie as the relation says, areas as the sizes do, nothing is cut off."""
    for seed in range(20):
        pixels = render_pair(
            block((255, 0, 0)),
            block((0, 0, 0)),
            describe(relation),
            image_size=64,
            rotation_degrees=0,
            rng=np.random.default_rng(seed),
        ).pixels.astype(int)
        red = (pixels[..., 0] > 200) & (pixels[..., 1] < 60)
        black = pixels.sum(axis=2) < 100
        offset = (np.argwhere(red).mean(axis=0) - np.argwhere(black).mean(axis=0))[::-1]
        assert offset[RELATIONS[relation].axis] * RELATIONS[relation].sign > 24  # of 64 pixels
        assert abs(offset[1 - RELATIONS[relation].axis]) < 14
        for mask, (smallest, largest) in ((red, SIDES["big"]), (black, SIDES["small"])):
            assert smallest**2 - 0.02 < mask.mean() < largest**2 + 0.02


def test_rows_are_whole_and_deterministic(rows: list[Row]) -> None:
    assert Counter(row.split for row in rows) == PARAMS["pictures"]
    assert len({row.image_bytes for row in rows}) == len(rows)
    for row in rows[::25]:
        assert Image.open(io.BytesIO(row.image_bytes)).size == (32, 32)
        assert row.attribution
        assert row.attributes["concept"] != row.attributes["other"]
    few = EmojiPairsParams(**PARAMS | {"pictures": {"train": 9, "val": 3, "test": 3, "novel": 3}})
    first = list(emoji_pairs.read_rows(few, archive=ARCHIVE, seed=1))
    assert first[:9] == [row for row in rows if row.split == "train"][:9]
    assert list(emoji_pairs.read_rows(few, archive=ARCHIVE, seed=2)) != first


def test_held_out_scenes_are_held_out_however_they_are_said(rows: list[Row]) -> None:
    params = EmojiPairsParams(**PARAMS)
    seen = emoji_pairs.plan_pairs(params, seed=1)["seen"]
    held_relations = set(product(params.concepts, RELATIONS)) - {(c, relation) for c, relation, _ in seen}
    held_others = {*map(frozenset, combinations(params.concepts, 2))} - {
        frozenset((c, o)) for c, _, o in seen
    }
    assert len(held_relations) == 2
    assert len(held_others) == 1
    for row in rows:
        a = row.attributes
        new_relation = (a["concept"], a["relation"]) in held_relations
        new_other = frozenset((a["concept"], a["other"])) in held_others
        assert new_relation + new_other == (row.split == "novel")  # one kind of novelty at a time
    pairs = seen_pairs(row.attributes for row in rows if row.split == "train")
    kinds = Counter(novelty_kind(row.attributes, pairs) for row in rows if row.split == "novel")
    assert kinds == {"concept_x_relation": 25, "concept_x_other": 25}


def test_partners_are_held_out_evenly() -> None:
    names = list("abcdef")
    held = hold_out_partners(names, count=6, rng=np.random.default_rng(0))
    load = Counter(name for pair in held for name in pair)
    assert len(held) == 6
    assert set(load.values()) == {2}
    with pytest.raises(ValueError, match="cannot hold out 10 pairs of 6 names"):
        hold_out_partners(names, count=10, rng=np.random.default_rng(0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"concepts": ["duck", "owl", "pizza", "gryphon"]}, r"concepts: unknown \['gryphon'\]"),
        ({"styles": ["cubism"]}, r"ingest.emoji_pairs.styles: unknown \['cubism'\]"),
        ({"backgrounds": ["blue", "plaid"]}, r"ingest.emoji_pairs.backgrounds: unknown"),
        ({"held_out_concept_other": 9}, r"ingest.emoji_pairs: cannot hold out 9 pairs of 5 names"),
        ({"held_out_concept_relation": 99}, r"ingest.emoji_pairs: cannot hold out 99 of 5 x 4"),
    ],
)
def test_mistake_in_params_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SalonError, match=message):
        list(emoji_pairs.read_rows(EmojiPairsParams(**PARAMS | changes), archive=ARCHIVE, seed=1))


def test_one_thing_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="'owl' twice"):
        EmojiPairsParams(**PARAMS | {"concepts": ["owl", "owl", "duck", "ring"]})


@pytest.mark.parametrize(
    ("caption", "lang", "problem"),
    [
        ("a big duck left of a small ring on a blue background", "en", None),
        ("a small ring right of a big duck on a blue background", "en", None),
        ("a small duck left of a big ring on a blue background", "en", "should be"),
        ("a small ring left of a big duck on a blue background", "en", "should be"),
        ("большая утка слева от маленького кольцо на голубом фоне", "ru", "should be"),
        ("ein Bild", "de", "no caption of a pair is in language 'de'"),
    ],
)
def test_book_knows_what_a_caption_must_say(caption: str, lang: str, problem: str | None) -> None:
    found = PairBook(("en", "ru")).disagreement(caption, lang=lang, attributes=describe("left_of"))
    assert found is None if problem is None else found is not None and problem in found
    assert PairBook(("en",)).disagreement("x", lang="en", attributes={"concept": "duck"}) == (
        "the row has no attribute 'other'"
    )


def test_ingested_pairs_pass_every_check(tmp_path: Path) -> None:
    params, paths = write_world_params(tmp_path, "emoji_pairs", PARAMS), Paths(tmp_path)
    ingest.run(params, paths)
    validate.run(params, paths)
    report = read_json(paths.validation)
    assert report["observed"]["novel_kinds"] == {"concept_x_other": 25, "concept_x_relation": 25}
    status = {check["name"]: check["status"] for check in report["checks"]}
    assert status["captions_match_attributes"] == "passed"
    assert set(report["observed"]["training_attributes"]) == {
        "concept", "other", "relation", "background"
    }  # fmt: skip
