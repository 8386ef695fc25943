"""Two models that drew the same prompts: is one no worse at captions, nearer to real pictures, as varied?

Each finding is a difference in favour of the challenger, with the one-sided p that it is no more than some
limit. Its error is that of the delete-one-drawing jackknife (Efron & Stein 1981, which it overstates if
anything), of both models, and of the real pictures, at once; the t has drawings - 1 degrees of freedom.

Where few prompts tell two models apart, nothing is left that a jackknife could delete: of shares, p is the
larger of that and of Tango's score test for paired proportions (1998), to which 0 lost of 500 is no proof
that nothing can be lost.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import brentq
from scipy.special import ndtr, stdtr

from salon.judging.statistics import Clusters, cluster_sums


@dataclass(frozen=True)
class Finding:
    """One figure of challenger and champion on the same prompts."""

    challenger: float
    champion: float
    error: float
    """Standard error of the difference, over clusters."""
    n: int
    clusters: int
    lower_is_better: bool = False
    won: int | None = None
    """Of a share: prompts that the challenger alone gets right; `None` of what is no share."""
    lost: int | None = None
    """Of a share: prompts that the champion alone gets right."""

    @property
    def gain(self) -> float:
        """The difference in favour of the challenger."""
        return (self.challenger - self.champion) * (-1 if self.lower_is_better else 1)

    def p(self, limit: float = 0.0) -> float:
        """One-sided, of a true gain of `limit` or less; 1 where clusters are too few to know."""
        if self.clusters < 2 or not math.isfinite(self.error):
            return 1.0
        beyond = self.gain - limit
        p = float(stdtr(self.clusters - 1, -beyond / self.error)) if self.error else float(beyond <= 0)
        if self.won is None or self.lost is None:
            return p
        return max(p, tango_p(self.won, self.lost, self.n, limit=limit))

    def low(self, level: float) -> float:
        """The lower end of the one-sided interval: the largest limit with p below `level`."""
        reach = max(abs(self.gain), self.error, 1 / self.n)
        while self.p(self.gain - reach) > level:
            reach *= 2
            if reach > 1e6:
                return -math.inf
        return float(brentq(lambda limit: self.p(limit) - level, self.gain - reach, self.gain))


@dataclass(frozen=True)
class Contest:
    """All findings of one comparison."""

    alignment: Finding
    """Share of prompts with everything right."""
    likeness: Mapping[str, Finding]
    """Per network: distance from real pictures as a share of that of blends, both smoothed."""
    diversity: Finding
    """How much two pictures of one prompt vary, as a share of what `varied_against` do."""
    varied_against: str
    """`real ones`, or `the champion's` where no two real ones show the same."""
    prompts: str
    """Which prompts they were, in words."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Contest":
        """What `to_json` gave; another form is some `LookupError` or `TypeError`."""
        likeness = {network: Finding(**found) for network, found in raw["likeness"].items()}
        found = {name: Finding(**raw[name]) for name in ("alignment", "diversity")}
        return cls(**{**raw, **found, "likeness": likeness})


def tango_p(won: int, lost: int, n: int, *, limit: float) -> float:
    """One-sided p that the share of n pairs won, less that lost, is `limit` or less (Tango 1998, eq. 7, 8).

    The variance is that of the likeliest shares with a difference of `limit`.
    """
    if not -1 < limit < 1:
        return float(limit >= 1)
    a, c = 2.0 * n, -lost * limit * (1 - limit)
    b = (2 * n - won + lost) * limit - won - lost
    q = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
    variance = n * (2 * q + limit * (1 - limit))
    beyond = won - lost - n * limit
    if variance <= 1e-12:
        return float(beyond <= 0)
    return float(ndtr(-beyond / math.sqrt(variance)))


def compare_shares(
    challenger: Bool[np.ndarray, "n"], champion: Bool[np.ndarray, "n"], *, clusters: Clusters = None
) -> Finding:
    """Shares of the same prompts that two models get right."""
    n = len(challenger)
    apart = challenger.astype(float) - champion.astype(float)
    (sums,), sizes = cluster_sums(apart[None], clusters)
    without = (apart.sum() - sums) / np.maximum(n - sizes, 1)
    return Finding(
        challenger=float(challenger.mean()),
        champion=float(champion.mean()),
        error=jackknife_error(without, float(apart.mean())),
        n=n,
        clusters=len(sizes),
        won=int((apart > 0).sum()),
        lost=int((apart < 0).sum()),
    )


def compare_spreads(
    challenger: Float[np.ndarray, "n"],
    champion: Float[np.ndarray, "n"],
    real: Float[np.ndarray, "n"],
    *,
    clusters: Clusters = None,
) -> Finding:
    """Roots of mean squared distances within a prompt, as shares of that of `real`."""
    sums, sizes = cluster_sums(np.stack([challenger, champion, real]), clusters)
    totals = sums.sum(axis=1, keepdims=True)
    (ours, theirs), found = _shares(totals)[:, 0], _shares(totals - sums)
    error = jackknife_error(found[0] - found[1], float(ours - theirs))
    return Finding(float(ours), float(theirs), error, n=len(real), clusters=len(sizes))


def _shares(squares: Float[np.ndarray, "3 c"]) -> Float[np.ndarray, "2 c"]:
    return np.sqrt(squares[:2].clip(min=0) / squares[2].clip(min=1e-12))


def jackknife_error(without: Float[np.ndarray, "c"], value: float) -> float:
    """Standard error of a figure from what it is without each cluster in turn."""
    return float(np.sqrt(((without - value) ** 2).sum()))
