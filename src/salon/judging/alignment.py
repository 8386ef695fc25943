"""Alignment: does the picture show what the caption says?"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Int

from salon.judging.statistics import Clusters, Estimate, bootstrap_mean

ALL = "all"
CAPTION = "caption"  # the attribute of rows that have none
DRAWING = ("concept", "style")  # the attributes that single out one drawing of a rendered world


@dataclass(frozen=True)
class Judged:
    """One generated picture, what was asked for and what the scorer sees."""

    id: str
    """Id of the row whose caption was the prompt."""
    caption: str
    lang: str
    wanted: Mapping[str, str]
    seen: Mapping[str, str]
    retrieved: str = ""
    """The caption that fits the picture best, of its own and others."""
    phrasing: str | None = None
    """How its source put the caption, where it is known."""

    @property
    def right(self) -> dict[str, bool]:
        """Which attributes the picture shows as asked."""
        return {name: self.seen[name] == value for name, value in self.wanted.items()}

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "right": self.right, ALL: all(self.right.values())}


def labels_of(wanted: Sequence[Mapping[str, str]], split: str) -> Int[np.ndarray, "n"]:
    """Which prompts stand or fall together: those of one drawing, or of one pair never seen together.

    On `novel/<a>_x_<b>` the pair of values is the unit, else the drawing (concept and style); rows that have
    neither are told apart by all that they ask for.
    """
    kind = re.split(r"_x_|\+", split.removeprefix("novel/")) if split.startswith("novel/") else DRAWING
    named = all(name in row for row in wanted for name in kind)
    keys = [tuple(row[name] for name in kind) if named else frozenset(row.items()) for row in wanted]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return np.array([numbers[key] for key in keys])


def alignment(
    judged: Sequence[Judged], *, bootstrap_samples: int, seed: int, clusters: Clusters = None
) -> dict[str, Estimate]:
    """Share of pictures with each attribute right, and with `all` of them right, over clusters."""
    rng = np.random.default_rng(seed)
    right = [picture.right for picture in judged]
    columns = {name: np.array([row[name] for row in right]) for name in right[0]}
    columns[ALL] = np.all(np.stack(list(columns.values())), axis=0)
    return {
        name: bootstrap_mean(each, samples=bootstrap_samples, rng=rng, clusters=clusters)
        for name, each in columns.items()
    }
