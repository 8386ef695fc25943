"""Pictures that stand in more than one split, as the same pixels or nearly the same."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from jaxtyping import UInt64

from salon.data.ingest.near_pairs import near_pairs

FEW_BITS = 8  # up to here, few pictures share a part of their hash by chance
CHUNK_PICTURES = 256  # compared at once with all of another split: bounds the memory


def shared_pictures(pictures: Sequence[str], splits: Sequence[str]) -> dict[int, int]:
    """Row -> the first row of another split that shows the same picture; rows without one are absent."""
    first: dict[str, dict[str, int]] = {}  # picture -> split -> its first row there
    for row, (picture, split) in enumerate(zip(pictures, splits, strict=True)):
        first.setdefault(picture, {}).setdefault(split, row)
    twins: dict[int, int] = {}
    for row, (picture, split) in enumerate(zip(pictures, splits, strict=True)):
        others = [other for name, other in first[picture].items() if name != split]
        if others:
            twins[row] = others[0]
    return twins


def near_duplicates(
    phashes: UInt64[np.ndarray, " n"], splits: Sequence[str], *, distance: int
) -> dict[int, tuple[int, int]]:
    """Row -> (nearest row of an earlier split, differing bits), where fewer than `distance` bits differ.

    Splits are taken in the order in which they first occur, so that a leak from training is named in the
    split that it spoils.
    """
    if distance <= FEW_BITS:
        return _near_among_few(phashes, splits, distance=distance)
    names = np.asarray(splits)
    rows_of = {split: np.flatnonzero(names == split) for split in dict.fromkeys(splits)}
    found: dict[int, tuple[int, int]] = {}
    for earlier, later in combinations(rows_of, 2):
        for start in range(0, len(rows_of[later]), CHUNK_PICTURES):
            rows = rows_of[later][start : start + CHUNK_PICTURES]
            differing = np.bitwise_count(phashes[rows, None] ^ phashes[rows_of[earlier]])  # (m, n)
            nearest = rows_of[earlier][differing.argmin(axis=1)]
            for row, other, bits in np.column_stack([rows, nearest, differing.min(axis=1)]).tolist():
                if bits < distance:
                    found.setdefault(row, (other, bits))
    return found


def _near_among_few(
    phashes: UInt64[np.ndarray, " n"], splits: Sequence[str], *, distance: int
) -> dict[int, tuple[int, int]]:
    """The same, without comparing each with each."""
    rank = pd.factorize(np.asarray(splits, dtype=object))[0]
    left, right = near_pairs(phashes, distance=distance)
    crossing = rank[left] != rank[right]
    left, right = left[crossing], right[crossing]
    swapped = rank[left] > rank[right]
    earlier, later = np.where(swapped, right, left), np.where(swapped, left, right)
    bits = np.bitwise_count(phashes[earlier] ^ phashes[later]).astype(np.int64)
    best = np.lexsort((earlier, bits, rank[earlier], later))
    _, first = np.unique(later[best], return_index=True)
    return {int(later[i]): (int(earlier[i]), int(bits[i])) for i in best[first]}
