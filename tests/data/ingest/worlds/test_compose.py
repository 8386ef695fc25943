"""Scenes composed again: the same attributes and all else anew; rows that no split has."""

import io
from functools import partial

import numpy as np
import pytest
from PIL import Image

from salon.data.ingest.worlds.base import open_composer
from salon.data.ingest.worlds.compose import SceneComposer, in_parallel
from salon.data.schema import Row
from tiny import ARCHIVE, write_tiny_params, write_world_params

PAIRS = {
    "image_size": 32,
    "concepts": ["duck", "owl", "pizza", "ring"],
    "styles": ["noto", "twemoji"],
    "backgrounds": ["blue", "yellow"],
    "pictures": {"train": 100, "val": 20, "test": 20, "novel": 20},
    "held_out_concept_relation": 1,
    "held_out_concept_other": 1,
}


@pytest.fixture(scope="module", params=["emoji", "emoji_pairs"])
def composer(request, tmp_path_factory) -> SceneComposer:
    folder = tmp_path_factory.mktemp("composer")
    pairs = partial(write_world_params, source="emoji_pairs", settings=PAIRS)
    params = {"emoji": write_tiny_params, "emoji_pairs": pairs}[request.param](folder)
    composer = open_composer(params.ingest, archive=ARCHIVE, seed=params.seed)
    assert composer is not None
    return composer


def pixels(row: Row) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(row.image_bytes)), dtype=float)


def test_a_scene_composed_again_shows_the_same_and_varies(composer: SceneComposer) -> None:
    first = composer.compose("train", 3)
    again = [composer.again(first.attributes, index) for index in range(4)]
    assert all(row.attributes == first.attributes for row in again)
    assert len({row.image_bytes for row in [first, *again]}) == 5
    other = next(
        row
        for row in (composer.compose("train", index) for index in range(99))
        if row.attributes["concept"] != first.attributes["concept"]
    )
    assert min(np.abs(pixels(row) - pixels(other)).mean() for row in again) > 5
    assert again == [composer.again(first.attributes, index) for index in range(4)]


def test_rows_beyond_a_split_are_in_no_split(composer: SceneComposer) -> None:
    known = {composer.compose("val", index).image_bytes for index in range(composer.params.pictures["val"])}
    further = [composer.further("val", index) for index in range(20)]
    assert all(row.split == "val" for row in further)
    assert not known & {row.image_bytes for row in further}


def test_workers_keep_the_order(composer: SceneComposer) -> None:
    asked = [("val", index) for index in range(300)]  # more than one task
    found = list(in_parallel(composer.further, iter(asked)))
    assert found[::60] == [composer.further(*each) for each in asked[::60]]


def test_rows_say_what_was_drawn(composer: SceneComposer) -> None:
    drawn = [composer.compose("train", index).factors for index in range(50)]
    assert all(row.keys() == drawn[0].keys() for row in drawn)
    for name in drawn[0]:
        assert np.std([row[name] for row in drawn]) > 0, name
