"""Which combinations training may see, and what makes a row novel."""

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
    held: set[tuple[str, str]] = set()
    order = [pair for pair in product(first, second)]
    rng.shuffle(order)
    for cap in range(1, max(len(first), len(second)) + 1):  # raise the load of every value evenly
        for a, b in order:
            if len(held) == count:
                return held
            load_a = sum(a == x for x, _ in held)
            load_b = sum(b == y for _, y in held)
            cap_b = -(-cap * len(first) // len(second))
            if (
                (a, b) not in held
                and load_a < min(cap, len(second) - 2)
                and load_b < min(cap_b, len(first) - 2)
            ):
                held.add((a, b))
    if len(held) == count:
        return held
    raise ValueError(
        f"cannot hold out {count} of {len(first)} x {len(second)} combinations and still show each value "
        f"with two others: at most {len(held)}"
    )


def hold_out_partners(names: Sequence[str], *, count: int, rng: np.random.Generator) -> set[frozenset[str]]:
    """Choose `count` pairs of different `names`, in no order, to keep out of training, spread evenly.

    Each name keeps at least two partners in training.

    Raises:
        ValueError: so many pairs cannot be held out.
    """
    order = list(combinations(names, 2))
    rng.shuffle(order)
    held: set[frozenset[str]] = set()
    load = dict.fromkeys(names, 0)
    for cap in range(1, len(names) - 2):  # raise the load of every name evenly
        for a, b in order:
            if len(held) == count:
                return held
            if frozenset((a, b)) not in held and load[a] < cap and load[b] < cap:
                held.add(frozenset((a, b)))
                load[a] += 1
                load[b] += 1
    if len(held) == count:
        return held
    raise ValueError(
        f"cannot hold out {count} pairs of {len(names)} names and still show each with two others: at most "
        f"{len(held)}"
    )


def _reading_order(attribute: str) -> tuple[int, str]:
    known = ("concept", "style", "background")
    return (known.index(attribute) if attribute in known else len(known), attribute)
