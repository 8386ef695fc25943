"""Which split every picture goes to, and which rows stand there twice: decided over all of them at once.

All captions of a picture stay together, and so do pictures that look alike: they are one group, and a group
is in one split. Drawn splits follow from the hash of the picture: a folder that grows keeps its splits.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, UInt64
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from salon.data.ingest.near_pairs import near_pairs
from salon.data.ingest.quarantine import Reason
from salon.params.sources import CaptionedParams
from salon.paths import SPLITS

UNSAID = -1  # the source names no split
TRAIN = SPLITS.index("train")


@dataclass(frozen=True)
class RowKeys:
    """What is known of each usable row, in the source's order."""

    pixels: UInt64[np.ndarray, "n 2"]
    """Hash of the picture."""
    content: UInt64[np.ndarray, " n"]
    """Hash of caption and language."""
    phash: UInt64[np.ndarray, " n"]
    split: Int[np.ndarray, " n"]
    """Number of the split in `SPLITS` that the source says, or `UNSAID`."""


class Refusal(NamedTuple):
    """A row that is refused for the sake of another one."""

    reason: Reason
    other: int
    """The row that stays."""


@dataclass(frozen=True)
class Assignment:
    """The outcome for each usable row."""

    split: Int[np.ndarray, " n"]
    """Number of its split in `SPLITS`; meaningless where it is refused."""
    refused: dict[int, Refusal]


def assign_splits(facts: RowKeys, settings: CaptionedParams) -> Assignment:
    """Find duplicates, group what looks alike, and give every group a split."""
    group = _groups(facts, distance=settings.phash_distance)
    share = _uniform(group, facts.pixels[:, 0])
    said = facts.split if settings.split_by == "source" else np.full_like(facts.split, UNSAID)
    split, keeper = _agree(said, group)
    strays = (said != UNSAID) & (said != split)
    # only among those that stay: a duplicate in another split must not be the one that is kept
    stay = np.flatnonzero(~strays)
    first = stay[_first_equal(np.column_stack([facts.pixels, facts.content])[stay])]
    twice = first != stay
    same = dict(zip(stay[twice].tolist(), first[twice].tolist(), strict=True))
    refused = {row: Refusal(Reason.DUPLICATE, other) for row, other in same.items()}
    for row in np.flatnonzero(strays).tolist():
        other = int(keeper[row])
        refused[row] = Refusal(Reason.IN_TWO_SPLITS, same.get(other, other))
    return Assignment(
        _assign(split, share, settings, lacking=set(range(len(SPLITS))) - set(said.tolist())), refused
    )


def _first_equal(keys: UInt64[np.ndarray, "n k"]) -> Int[np.ndarray, " n"]:
    """For each row the first row with the same keys."""
    rows = pd.Series(np.arange(len(keys)))
    return rows.groupby(list(keys.T), sort=False).transform("first").to_numpy()


def _groups(facts: RowKeys, *, distance: int) -> Int[np.ndarray, " n"]:
    """A number for each row: the same for rows whose pictures are the same or look alike."""
    count = len(facts.phash)
    hashes, number = np.unique(facts.phash, return_inverse=True)
    first, second = near_pairs(hashes, distance=distance)
    same_picture = _first_equal(facts.pixels)
    # rows and perceptual hashes are nodes; every row is tied to its hash and to the first row of its picture
    rows = np.arange(count)
    heads = np.concatenate([rows, rows, count + first])
    tails = np.concatenate([same_picture, count + number, count + second])
    if distance == 0:  # looks do not matter
        heads, tails = rows, same_picture
    nodes = count + len(hashes)
    graph = coo_array((np.ones(len(heads), dtype=bool), (heads, tails)), shape=(nodes, nodes))
    return connected_components(graph, directed=False)[1][:count].astype(np.int64)


def _uniform(group: Int[np.ndarray, " n"], pixels: UInt64[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """A number in [0, 1) for each row, the same for all of a group, from its pictures alone."""
    mixed = _smallest(pixels, group)  # the smallest of many is small: mixed anew (splitmix64, Steele 2014)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return (mixed >> np.uint64(11)).astype(np.float64) / 2.0**53


def _agree(
    said: Int[np.ndarray, " n"], group: Int[np.ndarray, " n"]
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """For each row the earliest split that the source says of its group, and the first row that is in it."""
    nothing = len(SPLITS)
    earliest = _smallest(np.where(said == UNSAID, nothing, said), group)
    keeper = _smallest(np.where(said == earliest, np.arange(len(said)), len(said)), group)
    return np.where(earliest == nothing, UNSAID, earliest), keeper


def _smallest(values: np.ndarray, group: Int[np.ndarray, " n"]) -> np.ndarray:
    """For each row the smallest value in its group."""
    return pd.Series(values).groupby(group).transform("min").to_numpy()


def _assign(
    split: Int[np.ndarray, " n"],
    share: Float[np.ndarray, " n"],
    settings: CaptionedParams,
    *,
    lacking: set[int],
) -> Int[np.ndarray, " n"]:
    """Training and unsaid rows are assigned to the splits that the source lacks."""
    open_to_all = (split == UNSAID) | (split == TRAIN)
    assigned = np.where(open_to_all, TRAIN, split)
    start = 0.0
    for name, fraction in settings.splits.model_dump().items():
        number = SPLITS.index(name)
        if number in lacking:
            assigned[open_to_all & (share >= start) & (share < start + fraction)] = number
            start += fraction
    return assigned
