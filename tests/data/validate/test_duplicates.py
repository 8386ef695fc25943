"""Leaks between splits against a plain double loop."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from salon.data.validate import duplicates
from salon.data.validate.duplicates import near_duplicates, shared_pictures

SPLITS = st.sampled_from(["train", "val", "test"])


@given(st.lists(st.tuples(st.sampled_from("abcdef"), SPLITS), max_size=20))
def test_shared_pictures_are_those_of_the_double_loop(rows):
    pictures, splits = [p for p, _ in rows], [s for _, s in rows]
    twins = shared_pictures(pictures, splits)
    for row, (picture, split) in enumerate(rows):
        crossing = any(p == picture and s != split for p, s in rows)
        assert (row in twins) == crossing
        if crossing:
            assert pictures[twins[row]] == picture
            assert splits[twins[row]] != split


@given(
    st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 3), SPLITS), max_size=12),
    st.integers(0, 6),
)
def test_near_duplicates_are_those_of_the_double_loop(rows, distance):
    # each hash also comes with a few bits flipped: random hashes alone are never near
    hashes = [base ^ ((1 << flips) - 1) for base, _, _ in rows for flips in (0, 2)]
    splits = [split for _, shift, split in rows for split in (split, ["train", "val", "test", split][shift])]
    found = near_duplicates(np.array(hashes, dtype=np.uint64), splits, distance=distance)
    order = list(dict.fromkeys(splits))
    for row, split in enumerate(splits):
        earlier = [
            (hashes[row] ^ hashes[other]).bit_count()
            for other, name in enumerate(splits)
            if order.index(name) < order.index(split)
        ]
        near = [bits for bits in earlier if bits < distance]
        assert (row in found) == bool(near)
        if near:
            other, bits = found[row]
            assert (hashes[row] ^ hashes[other]).bit_count() == bits < distance


def test_chunks_do_not_change_the_answer(monkeypatch):
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, size=300, dtype=np.uint64)
    hashes[150:] = hashes[:150] ^ np.uint64(1)
    splits = ["train"] * 150 + ["val"] * 150
    whole = near_duplicates(hashes, splits, distance=2)
    assert whole == {row: (row - 150, 1) for row in range(150, 300)}
    monkeypatch.setattr(duplicates, "CHUNK_PICTURES", 7)
    assert near_duplicates(hashes, splits, distance=2) == whole
