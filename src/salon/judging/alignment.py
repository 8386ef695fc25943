"""Alignment: does the picture show what the caption says?"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from salon.judging.statistics import Estimate, bootstrap_mean

ALL = "all"
CAPTION = "caption"  # the attribute of rows that have none


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


def alignment(judged: Sequence[Judged], *, bootstrap_samples: int, seed: int) -> dict[str, Estimate]:
    """Share of pictures with each attribute right, and with `all` of them right, with intervals."""
    rng = np.random.default_rng(seed)
    right = [picture.right for picture in judged]
    columns = {name: np.array([row[name] for row in right]) for name in right[0]}
    columns[ALL] = np.all(np.stack(list(columns.values())), axis=0)
    return {name: bootstrap_mean(each, samples=bootstrap_samples, rng=rng) for name, each in columns.items()}
