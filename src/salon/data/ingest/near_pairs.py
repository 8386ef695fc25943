"""All pairs of perceptual hashes that are nearly the same, without comparing each with each.

Cut into `distance` parts, two hashes that differ in fewer than `distance` bits agree in at least one part:
only hashes with a part in common are compared (Manku 2007, "Detecting near-duplicates for web crawling",
sec. 3).
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from jaxtyping import Int, UInt64

BITS = 64
CHUNK_PAIRS = 2_000_000  # compared at once: bounds the memory
Pairs = tuple[Int[np.ndarray, " p"], Int[np.ndarray, " p"]]


def near_pairs(hashes: UInt64[np.ndarray, " n"], *, distance: int) -> Pairs:
    """Positions of the pairs that differ in fewer than `distance` bits; a pair may come several times."""
    empty = np.zeros(0, dtype=np.int64)
    firsts, seconds = [empty], [empty]
    edges = [BITS * part // max(distance, 1) for part in range(distance + 1)]
    for low, high in pairwise(edges):
        part = (hashes >> np.uint64(low)) & np.uint64(2 ** (high - low) - 1)
        order = np.argsort(part, kind="stable")
        for first, second in _pairs_of_runs(part[order]):
            left, right = order[first], order[second]
            near = np.bitwise_count(hashes[left] ^ hashes[right]) < distance
            firsts.append(left[near])
            seconds.append(right[near])
    return np.concatenate(firsts), np.concatenate(seconds)


def _pairs_of_runs(ordered: UInt64[np.ndarray, " n"]) -> Iterator[Pairs]:
    """Every pair of positions with equal values, at most about `CHUNK_PAIRS` at once."""
    if not len(ordered):
        return
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    ends = np.append(starts[1:], len(ordered))
    # position i is paired with those behind it in its run
    behind = np.repeat(ends, ends - starts) - np.arange(len(ordered)) - 1
    total = np.cumsum(behind)
    start = 0
    while start < len(ordered):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + CHUNK_PAIRS, side="right")))
        counts = behind[start:stop]
        first = np.repeat(np.arange(start, stop), counts)
        step = np.arange(len(first)) - np.repeat(np.cumsum(counts) - counts, counts)
        yield first, first + 1 + step
        start = stop
