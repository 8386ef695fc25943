"""Splits and duplicates against plain loops: one group, one split; no picture in two."""

from collections import defaultdict
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salon.data.ingest import near_pairs as similar
from salon.data.ingest.assign import UNSAID, RowKeys, assign_splits
from salon.data.ingest.near_pairs import near_pairs
from salon.data.ingest.quarantine import Reason
from salon.params.sources import CaptionedParams, SplitParams
from salon.paths import SPLITS

TRAIN, VAL, TEST, NOVEL = range(4)
SHARES = SplitParams(val=0.25, test=0.25, novel=0.1)


def facts(rows: list[tuple[int, int, int, int]]) -> RowKeys:
    """Rows of (picture, caption, perceptual hash, split)."""
    pictures, captions, hashes, splits = (np.array(column) for column in zip(*rows, strict=True))
    pixels = np.random.default_rng(0).integers(2**63, size=(1000, 2)).astype(np.uint64)[pictures]
    return RowKeys(pixels, captions.astype(np.uint64), hashes.astype(np.uint64), splits.astype(np.int64))


def far_apart(count: int) -> list[int]:
    return np.random.default_rng(1).integers(2**63, size=count).tolist()


@given(st.lists(st.integers(0, 2**64 - 1), max_size=12), st.integers(0, 8))
def test_near_pairs_are_those_of_the_double_loop(bases, distance):
    # each hash also comes with a few bits flipped: random hashes alone are never near
    hashes = sorted({base ^ ((1 << flips) - 1) << 13 for base in bases for flips in (0, 2, 5)})
    first, second = near_pairs(np.array(hashes, dtype=np.uint64), distance=distance)
    found = {tuple(sorted(pair)) for pair in zip(first.tolist(), second.tolist(), strict=True)}
    assert found == {
        (i, j)
        for i, j in combinations(range(len(hashes)), 2)
        if (hashes[i] ^ hashes[j]).bit_count() < distance
    }


def test_pairs_come_in_pieces_that_fit_into_memory(monkeypatch):
    hashes = np.arange(200, dtype=np.uint64)  # all agree in three of four parts
    whole = {tuple(pair) for pair in np.stack(near_pairs(hashes, distance=4), axis=1).tolist()}
    monkeypatch.setattr(similar, "CHUNK_PAIRS", 50)
    pieces = {tuple(pair) for pair in np.stack(near_pairs(hashes, distance=4), axis=1).tolist()}
    assert pieces == whole
    assert len(whole) > 1000


ROWS = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 2), st.integers(0, 3), st.sampled_from([UNSAID, 0, 1, 2, 3])),
    min_size=1,
    max_size=30,
)


@given(ROWS, st.sampled_from(["source", "picture"]))
def test_no_picture_and_no_likeness_stands_in_two_splits(rows, split_by):
    # a picture has one hash: every third picture looks like others
    hashes = far_apart(4)
    rows = [
        (picture, caption, hashes[picture % 4] ^ (picture // 4), split) for picture, caption, _, split in rows
    ]
    outcome = assign_splits(facts(rows), CaptionedParams(split_by=split_by, splits=SHARES))
    kept = [row for row in range(len(rows)) if row not in outcome.refused]
    for i, j in combinations(kept, 2):
        near = (rows[i][2] ^ rows[j][2]).bit_count() < 4
        if rows[i][0] == rows[j][0] or near:
            assert outcome.split[i] == outcome.split[j]
        assert rows[i][:2] != rows[j][:2]  # no row twice
    for row, refusal in outcome.refused.items():
        assert refusal.other in kept
        if refusal.reason is Reason.DUPLICATE:
            assert rows[row][:2] == rows[refusal.other][:2]
        else:
            assert refusal.reason is Reason.IN_TWO_SPLITS
            assert split_by == "source"
            assert rows[row][3] > TRAIN
    for row in kept:
        if split_by == "source" and rows[row][3] > TRAIN:
            assert outcome.split[row] == rows[row][3]


def test_no_picture_is_lost_for_being_a_duplicate():
    """The copy in test comes first and goes; the one in train stays."""
    rows = [(1, 5, 77, TEST), (1, 5, 77, TRAIN), (1, 5, 77, TRAIN), (2, 5, far_apart(1)[0], TEST)]
    outcome = assign_splits(facts(rows), CaptionedParams())
    assert {row: (r.reason, r.other) for row, r in outcome.refused.items()} == {
        0: (Reason.IN_TWO_SPLITS, 1),
        2: (Reason.DUPLICATE, 1),
    }


def test_drawn_shares_are_those_asked_for():
    hashes = far_apart(900)
    rows = [(number, 0, hashes[number], UNSAID) for number in range(900)]
    outcome = assign_splits(facts(rows), CaptionedParams(splits=SHARES))
    counts = np.bincount(outcome.split, minlength=4) / 900
    assert counts == pytest.approx([0.4, 0.25, 0.25, 0.1], abs=0.05)


def test_a_source_that_grows_keeps_its_splits():
    hashes = far_apart(600)
    rows = [(number, 0, hashes[number], UNSAID) for number in range(600)]
    settings = CaptionedParams(splits=SHARES)
    before, after = assign_splits(facts(rows[100:400]), settings), assign_splits(facts(rows[::-1]), settings)
    assert np.array_equal(after.split[::-1][100:400], before.split)


def test_only_the_splits_that_a_source_lacks_are_drawn_from_its_training_pictures():
    hashes = far_apart(900)
    rows = [(number, 0, hashes[number], VAL if number < 60 else TRAIN) for number in range(900)]
    outcome = assign_splits(facts(rows), CaptionedParams(splits=SHARES))
    assert (outcome.split[:60] == VAL).all()
    assert (outcome.split == VAL).sum() == 60
    assert (outcome.split == TEST).sum() == pytest.approx(0.25 * 840, abs=40)
    anew = assign_splits(facts(rows), CaptionedParams(splits=SHARES, split_by="picture"))
    assert (anew.split == VAL).sum() == pytest.approx(0.25 * 900, abs=40)


def test_large_groups_do_not_crowd_into_one_split():
    """The smallest of many hashes is small: taken as it is, all large groups would be held out."""
    looks = far_apart(90)
    rows = [(number, 0, looks[number // 10], UNSAID) for number in range(900)]
    outcome = assign_splits(facts(rows), CaptionedParams(splits=SplitParams(val=0.1, test=0.1)))
    splits = defaultdict(set)
    for number, split in enumerate(outcome.split.tolist()):
        splits[number // 10].add(split)
    assert all(len(found) == 1 for found in splits.values())
    assert (outcome.split == TRAIN).mean() > 0.6


def test_looks_may_be_left_out_of_account():
    rows = [(number, 0, 42, UNSAID) for number in range(300)]
    assert len(set(assign_splits(facts(rows), CaptionedParams(splits=SHARES)).split.tolist())) == 1
    settings = CaptionedParams(splits=SHARES, phash_distance=0)
    assert len(set(assign_splits(facts(rows), settings).split.tolist())) == len(SPLITS)
