"""Methods against each other on the same prompts: which of them can be told apart?

Paired by prompt, so that hard prompts cancel out, and over clusters (`salon.judging.statistics`). Where two
methods of one training each differ in fewer than ten clusters, the exact sign-flip test counts (Fisher 1935,
sec. 21; of single right and wrong prompts McNemar's), mid-p, since with so few signs the p itself comes in
coarse steps; else Student's t on the cluster-robust standard error, with the spread of several trainings as
a second component and Satterthwaite's degrees of freedom (1946).

All pairs of a table are looked at, and the best is chosen by looking: alone at 5 % each, some two of five
equal methods would be told apart in 29 of 100 tables. Two methods are told apart where Holm's adjusted p
(1979) is below 5 %. Intervals hold together (Bonferroni); that of a pair told apart ends at zero at the
nearest.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri, stdtr, stdtrit

from salon.judging.statistics import (
    Z_POWER_80,
    Clusters,
    Estimate,
    Scores,
    as_tables,
    cluster_sums,
    seed_spread,
)

SIGNIFICANCE = 0.05
FEW = 10  # discordant clusters below which the test is exact: 2^9 signs at most
Component = tuple[float, float]
"""A variance and its degrees of freedom."""
TIE = 1e-12  # 0.1 + 0.2 - 0.3 is a tie, not a win


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same prompts."""

    difference: Estimate
    """Mean of first minus second."""
    p: float
    """Two-sided, adjusted for all pairs of the table (Holm)."""
    probability_better: float
    """One minus the one-sided p of this pair alone, of the first; 0.5 at a tie."""
    prompts_needed: int | None
    """Prompts in all, in as many more clusters, that would tell them apart in four of five repetitions if the
    difference is as large as it looks; `None` when there is no difference to be found."""

    @property
    def distinguishable(self) -> bool:
        """Whether the two are told apart."""
        return self.p < SIGNIFICANCE

    @property
    def reversed(self) -> "Comparison":
        """The second against the first."""
        seen = self.difference
        return replace(
            self,
            difference=replace(seen, value=-seen.value, low=-seen.high, high=-seen.low),
            probability_better=1 - self.probability_better,
        )

    @property
    def more_prompts(self) -> int | None:
        """How many prompts are missing; 0 when the two can be told apart already."""
        if self.distinguishable:
            return 0
        return None if self.prompts_needed is None else max(1, self.prompts_needed - self.difference.n)


@dataclass(frozen=True)
class Difference:
    """What is known of one difference before others are looked at."""

    value: float
    error: float
    """Standard error over prompts and trainings."""
    free: float
    """Degrees of freedom of the error."""
    spread: float
    """Standard deviation per prompt, of which the error over prompts is made."""
    exact: float | None = None
    """Two-sided p of the exact test, where it counts."""

    @property
    def p(self) -> float:
        """Two-sided."""
        if self.exact is not None or abs(self.value) < TIE:
            return 1.0 if self.exact is None else self.exact
        return 2 * float(stdtr(self.free, -abs(self.value) / self.error)) if self.error else 0.0

    def reach(self, level: float) -> float:
        """Half-width of the interval of this two-sided level that goes with p (Altman & Bland 2011)."""
        error = self.error
        if self.exact is not None and 0 < self.exact < 1:
            error = abs(self.value) / -float(stdtrit(self.free, self.exact / 2))
        return -error * float(stdtrit(self.free, level / 2))


def compare(first: Scores, second: Scores, *, clusters: Clusters = None) -> Comparison:
    """`compare_all` of two methods alone."""
    (comparison,) = compare_all([first, second], clusters=clusters).values()
    return comparison


def compare_all(
    scores: Sequence[Scores], *, clusters: Clusters = None, spreads: Sequence[Component] | None = None
) -> dict[tuple[int, int], Comparison]:
    """Paired comparisons of every method with every later one, which hold together.

    Args:
        spreads: What other trainings are known to vary by, of each method trained once: then its figure says
            something of the method, and less.

    Raises:
        ValueError: they were judged on different numbers of prompts, or on none.
    """
    tables = as_tables(scores)
    trained = [(seed_spread(table) ** 2, len(table) - 1.0) for table in tables]
    if spreads is not None:
        trained = [
            known if len(table) == 1 else own
            for table, own, known in zip(tables, trained, spreads, strict=True)
        ]
    found = {
        (i, j): _difference(tables[i], tables[j], clusters, [trained[i], trained[j]])
        for i, j in combinations(range(len(tables)), 2)
    }
    return together(found, n=tables[0].shape[1], clusters=None if clusters is None else len(set(clusters)))


def compare_resampled(
    values: Float[np.ndarray, "k"],
    draws: Float[np.ndarray, "samples k"],
    *,
    n: int,
    clusters: int | None = None,
) -> dict[tuple[int, int], Comparison]:
    """`compare_all` of a figure that is no mean over prompts, as KID, from resamples that all methods share.

    Args:
        draws: The figure of each method in the same resamples of n prompts in so many clusters.
    """
    free = (n if clusters is None else clusters) - 1
    found = {}
    for i, j in combinations(range(len(values)), 2):
        error = float((draws[:, i] - draws[:, j]).std() * math.sqrt((free + 1) / free))
        found[i, j] = Difference(float(values[i] - values[j]), error, free, error * math.sqrt(n))
    return together(found, n=n, clusters=clusters)


def _difference(
    first: Float[np.ndarray, "s n"],
    second: Float[np.ndarray, "r n"],
    clusters: Clusters,
    trained: Sequence[Component],
) -> Difference:
    apart = first.mean(axis=0) - second.mean(axis=0)
    (sums,), sizes = cluster_sums(apart[None], clusters)
    n, value = apart.size, float(apart.mean())
    free = max(1.0, sizes.size - 1.0)
    over_prompts = float(((sums - sizes * value) ** 2).sum() / n**2 * (free + 1) / free)
    error, free = combine([(over_prompts, free), *trained])
    discordant = sums[np.abs(sums) > TIE]
    rare = len(first) == len(second) == 1 and discordant.size < FEW and not any(part[0] for part in trained)
    return Difference(
        value,
        error,
        free,
        spread=math.sqrt(over_prompts * n),
        exact=sign_flip_p(discordant) if rare else None,
    )


def combine(components: Sequence[Component]) -> tuple[float, float]:
    """Standard error of a sum of independent parts, and its degrees of freedom (Satterthwaite 1946)."""
    parts = [(variance, free) for variance, free in components if variance]
    total = sum(variance for variance, _ in parts)
    if not parts:
        return 0.0, max(free for _, free in components)
    return math.sqrt(total), total**2 / sum(variance**2 / free for variance, free in parts)


def sign_flip_p(discordant: Float[np.ndarray, "d"]) -> float:
    """Two-sided mid-p of a sum whose terms could as well have the other sign; of +1 and -1 McNemar's."""
    total, reached = abs(discordant.sum()), np.zeros(1)
    for term in np.abs(discordant):
        reached = np.concatenate([reached + term, reached - term])
    equal = np.abs(reached - total) < TIE
    return float(min(1.0, 2 * (((reached > total) & ~equal).mean() + equal.mean() / 2)))


def holm(p: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given (Holm 1979)."""
    adjusted, largest = [1.0] * len(p), 0.0
    for rank, place in enumerate(np.argsort(p, kind="stable")):
        largest = max(largest, min(1.0, (len(p) - rank) * p[place]))
        adjusted[place] = largest
    return adjusted


def together(
    found: Mapping[tuple[int, int], Difference], *, n: int, clusters: int | None
) -> dict[tuple[int, int], Comparison]:
    """Comparisons of all pairs of a table, adjusted for one another (Holm)."""
    together = {}
    for (pair, alone), p in zip(found.items(), holm([each.p for each in found.values()]), strict=True):
        reach = alone.reach(SIGNIFICANCE / len(found))
        low, high = alone.value - reach, alone.value + reach
        if p < SIGNIFICANCE:
            low, high = (max(low, 0.0), high) if alone.value > 0 else (low, min(high, 0.0))
        together[pair] = Comparison(
            Estimate(alone.value, low, high, n, clusters),
            p=p,
            probability_better=1 - alone.p / 2 if alone.value > 0 else alone.p / 2,
            prompts_needed=prompts_to_tell(alone.value, spread=alone.spread, comparisons=len(found)),
        )
    return together


def prompts_to_tell(difference: float, *, spread: float, comparisons: int = 1) -> int | None:
    """Prompts that tell a mean difference of a `spread` (std) per prompt from zero at 5 % with power 80 %.

    `comparisons`: how many are made, each at its share of the 5 %.
    """
    if abs(difference) < TIE:
        return None
    critical = -float(ndtri(SIGNIFICANCE / (2 * comparisons)))
    return math.ceil(((critical + Z_POWER_80) * spread / difference) ** 2)
