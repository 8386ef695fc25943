"""Which combinations training may see, and what makes a row novel."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, product

import numpy as np

Pair = tuple[tuple[str, str], tuple[str, str]]
"""Two attributes with their values, by attribute name: (("background", "pink"), ("concept", "owl"))."""


def attribute_pairs(attributes: Mapping[str, str]) -> list[Pair]:
    """Every pair of attribute values of one row."""
    return list(combinations(sorted(attributes.items()), 2))


def seen_pairs(rows: Iterable[Mapping[str, str]]) -> set[Pair]:
    """Every pair of attribute values that occurs in `rows`."""
    return {pair for row in rows for pair in attribute_pairs(row)}


def novelty_kind(attributes: Mapping[str, str], train_pairs: set[Pair]) -> str | None:
    """Names of the two attributes whose combination training lacks, e.g. `concept_x_style`.

    `None` when every pair was seen. Where several pairs are unseen, all are named, joined by `+`.
    """
    unseen = [pair for pair in attribute_pairs(attributes) if pair not in train_pairs]
    # a background is named after what stands before it
    names = sorted("_x_".join(sorted((a, b), key=_reading_order)) for (a, _), (b, _) in unseen)
    return "+".join(names) or None


def hold_out_pairs(
    first: Sequence[str], second: Sequence[str], *, count: int, rng: np.random.Generator
) -> set[tuple[str, str]]:
    """Choose `count` pairs of first x second to keep out of training, spread as evenly as possible.

    Each value keeps at least two partners in training, so that each part of a novel one is well known.

    Raises:
        ValueError: so many pairs cannot be held out.
    """
    order = list(product(first, second))
    rng.shuffle(order)
    caps = []
    for cap in range(1, max(len(first), len(second)) + 1):
        cap_b = -(-cap * len(first) // len(second))
        caps.append((min(cap, len(second) - 2), min(cap_b, len(first) - 2)))
    what = f"{count} of {len(first)} x {len(second)} combinations and still show each value"
    return set(_choose_evenly(order, count, caps, loads=(Counter(), Counter()), what=what))


def hold_out_partners(names: Sequence[str], *, count: int, rng: np.random.Generator) -> set[frozenset[str]]:
    """Choose `count` pairs of different `names`, in no order, to keep out of training, spread evenly.

    Each name keeps at least two partners in training.

    Raises:
        ValueError: so many pairs cannot be held out.
    """
    order = list(combinations(names, 2))
    rng.shuffle(order)
    caps = [(cap, cap) for cap in range(1, len(names) - 2)]
    load: Counter[str] = Counter()  # one for both: a name may stand first or second
    what = f"{count} pairs of {len(names)} names and still show each"
    return set(map(frozenset, _choose_evenly(order, count, caps, loads=(load, load), what=what)))


def _choose_evenly(
    order: Sequence[tuple[str, str]],
    count: int,
    caps: Iterable[tuple[int, int]],
    *,
    loads: tuple[Counter[str], Counter[str]],
    what: str,
) -> list[tuple[str, str]]:
    """The first `count` pairs of `order` whose values are in less pairs than `caps`, raised step by step."""
    held: list[tuple[str, str]] = []
    for cap_a, cap_b in caps:
        for a, b in order:
            if len(held) < count and (a, b) not in held and loads[0][a] < cap_a and loads[1][b] < cap_b:
                held.append((a, b))
                loads[0][a] += 1
                loads[1][b] += 1
    if len(held) < count:
        raise ValueError(f"cannot hold out {what} with two others: at most {len(held)}")
    return held


def _reading_order(attribute: str) -> tuple[int, str]:
    known = ("concept", "style", "background")
    return (known.index(attribute) if attribute in known else len(known), attribute)
