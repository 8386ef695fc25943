"""Intervals and decisions: how far a figure can be trusted, given the prompts and the trainings behind it.

Percentile bootstrap over prompts (Efron & Tibshirani 1993, ch. 13 and 16); where fewer than ten are right, or
wrong, Jeffreys' interval, since the bootstrap gave one miss in 500 less room than none. Methods are resampled
together, on the same prompts, so that hard prompts cancel out of their differences. Trainings from several
seeds are too few to be resampled: their spread is a component of variance (two-way layout, seeds x prompts)
and enters each resample as Student's t with seeds - 1 degrees of freedom, so that three seeds are no more
certain than they should be (measured coverage of a mean: 91 to 93 % with 3 to 8 seeds). With one seed an
interval speaks of that training alone.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import beta

LEVEL = (0.025, 0.975)  # a two-sided 95 % interval
FEW = 10  # right, or wrong, ones below which resamples of a share vary too little
SIMULTANEOUS = 0.95  # share of tables in which all intervals of differences hold
Z_TWO_SIDED_5 = 1.96
Z_POWER_80 = 0.8416  # a difference is found in four of five repetitions

Scores = Float[np.ndarray, "n"] | Float[np.ndarray, "s n"] | Bool[np.ndarray, "n"] | Bool[np.ndarray, "s n"]
"""One score per prompt, or one row of them per training seed."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % percentile-bootstrap interval over n prompts."""

    value: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, float | int]:
        return {name: round(value, 4) for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Comparison:
    """Two methods on the same prompts."""

    difference: Estimate
    """Mean of first minus second."""
    probability_better: float
    """Share of resamples in which the first is ahead; a tie counts half."""
    prompts_needed: int | None
    """Prompts in all that would tell them apart in four of five repetitions if the difference is as large as
    it looks; `None` when there is no difference to be found."""

    @property
    def distinguishable(self) -> bool:
        """Whether the interval of the difference leaves zero out."""
        return self.difference.low > 0 or self.difference.high < 0

    @property
    def more_prompts(self) -> int | None:
        """How many prompts are missing; 0 when the two can be told apart already."""
        if self.distinguishable:
            return 0
        return None if self.prompts_needed is None else max(1, self.prompts_needed - self.difference.n)

    def to_json(self) -> dict[str, object]:
        return {
            "difference": self.difference.to_json(),
            "probability_better": round(self.probability_better, 4),
            "distinguishable": self.distinguishable,
            "more_prompts": self.more_prompts,
        }


def bootstrap_mean(values: Scores, *, samples: int, rng: np.random.Generator) -> Estimate:
    """Mean of `values` with its bootstrap interval; rows of several seeds widen it by their spread.

    Raises:
        ValueError: there are no values.
    """
    numbers = np.atleast_2d(np.asarray(values, dtype=np.float64))
    seeds, n = numbers.shape
    estimate = summarise(numbers.mean(), draws=resample_means([numbers], samples=samples, rng=rng)[:, 0], n=n)
    trials, right = seeds * n, numbers.sum()
    if min(right, trials - right) >= (FEW if seeds == 1 else 1) or not np.isin(numbers, (0, 1)).all():
        return estimate
    # Jeffreys' interval; for none and all the exact (Clopper-Pearson) bound, 3.7/n (Brown 2001, sec. 4.1.2)
    low, high = beta.ppf(LEVEL, right + 0.5, trials - right + 0.5)
    room = 1 - LEVEL[0] ** (1 / trials)
    if right in (0, trials):
        low, high = (0.0, room) if right == 0 else (1 - room, 1.0)
    return Estimate(float(right / trials), float(low), float(high), n)


def summarise(value: float, *, draws: Float[np.ndarray, "samples"], n: int) -> Estimate:
    """`value` with the interval that holds the middle 95 % of its resamples."""
    low, high = np.quantile(draws, LEVEL)
    return Estimate(float(value), float(low), float(high), n)


def resample_means(
    scores: Sequence[Scores], *, samples: int, rng: np.random.Generator
) -> Float[np.ndarray, "samples k"]:
    """Means of k methods over the same resampled prompts, each with the spread of its training seeds.

    Raises:
        ValueError: there are no prompts, or the methods were judged on different numbers of them.
    """
    tables = [np.atleast_2d(np.asarray(values, dtype=np.float64)) for values in scores]
    sizes = {table.shape[1] for table in tables}
    if sizes in (set(), {0}):
        raise ValueError("no values to average")
    if len(sizes) > 1:
        raise ValueError(f"the methods were judged on different numbers of prompts: {sorted(sizes)}")
    (n,) = sizes
    # resampling n prompts with replacement = drawing how often each distinct outcome occurs
    per_prompt = np.stack([table.mean(axis=0) for table in tables])
    outcomes, counts = np.unique(per_prompt, axis=1, return_counts=True)
    means = rng.multinomial(n, counts / n, size=samples) @ outcomes.T / n
    for method, table in enumerate(tables):
        if spread := _seed_spread(table):
            means[:, method] += spread * rng.standard_t(len(table) - 1, size=samples)
    return means


def _seed_spread(table: Float[np.ndarray, "s n"]) -> float:
    """Standard error of a mean over s trainings that comes from the trainings, not from the prompts."""
    seeds, n = table.shape
    if seeds == 1 or n == 1:
        return 0.0
    of_seed, of_prompt = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True)
    residual = table - of_seed - of_prompt + table.mean()
    noise = (residual**2).sum() / ((seeds - 1) * (n - 1))  # mean square of seeds x prompts
    between = of_seed.var(ddof=1) - noise / n
    return math.sqrt(max(0.0, between) / seeds)


def compare(first: Scores, second: Scores, *, samples: int, rng: np.random.Generator) -> Comparison:
    """`compare_all` of two methods alone."""
    (comparison,) = compare_all([first, second], samples=samples, rng=rng).values()
    return comparison


def compare_all(
    scores: Sequence[Scores], *, samples: int, rng: np.random.Generator
) -> dict[tuple[int, int], Comparison]:
    """Paired comparisons of every method with every later one, whose intervals hold together.

    Each pair by itself at 95 % would tell some two of five equal methods apart in 29 of 100 tables, and the
    best is chosen by looking at the table. All intervals are therefore widened by one factor, so that 95 %
    of the resamples have no difference outside its own (the max statistic of Romano & Wolf 2005, sec. 4):
    4 to 6 of 100 tables, 7 to 8 where 0.3 to 2 % are wrong. For two methods the factor is 1.

    Raises:
        ValueError: they were judged on different numbers of prompts, or on none.
    """
    draws = resample_means(scores, samples=samples, rng=rng)
    means = [np.atleast_2d(values).mean(axis=0) for values in scores]
    pairs = list(combinations(range(len(scores)), 2))
    apart = [means[i] - means[j] for i, j in pairs]
    ahead = [draws[:, i] - draws[:, j] for i, j in pairs]
    for each in ahead:
        each[np.abs(each) < 1e-12] = 0  # 0.1 + 0.2 - 0.3 is a tie, not a win
    alone = [summarise(a.mean(), draws=each, n=a.size) for a, each in zip(apart, ahead, strict=True)]
    factor = _common_widening(alone, ahead) if len(pairs) > 1 else 1.0
    return {
        pair: Comparison(
            difference=replace(
                by_itself,
                low=by_itself.value - factor * (by_itself.value - by_itself.low),
                high=by_itself.value + factor * (by_itself.high - by_itself.value),
            ),
            probability_better=float((each > 0).mean() + (each == 0).mean() / 2),
            prompts_needed=prompts_to_tell(by_itself.value, spread=float(a.std()), widening=factor),
        )
        for pair, a, each, by_itself in zip(pairs, apart, ahead, alone, strict=True)
    }


def _common_widening(alone: Sequence[Estimate], draws: Sequence[Float[np.ndarray, "samples"]]) -> float:
    """By how much all intervals must grow to hold 95 % of the resamples at once."""
    reach = [
        np.maximum(
            (drawn - each.value) / max(each.high - each.value, 1e-12),
            (each.value - drawn) / max(each.value - each.low, 1e-12),
        )
        for each, drawn in zip(alone, draws, strict=True)
        if each.low < each.high
    ]
    return max(1.0, float(np.quantile(np.max(reach, axis=0), SIMULTANEOUS))) if reach else 1.0


def prompts_to_tell(difference: float, *, spread: float, widening: float = 1.0) -> int | None:
    """Prompts that tell a mean difference of a `spread` (std) per prompt from zero at 5 % with power 80 %.

    `widening`: by how much the interval is wider than that of one comparison alone.
    """
    if abs(difference) < 1e-12:
        return None
    return math.ceil(((widening * Z_TWO_SIDED_5 + Z_POWER_80) * spread / difference) ** 2)


def probability_best(
    scores: Sequence[Scores], *, samples: int, rng: np.random.Generator
) -> Float[np.ndarray, "k"]:
    """For each of k methods the share of resamples in which it leads; leaders share a tie equally."""
    draws = resample_means(scores, samples=samples, rng=rng)
    leads = draws >= draws.max(axis=1, keepdims=True) - 1e-12
    return (leads / leads.sum(axis=1, keepdims=True)).mean(axis=0)
