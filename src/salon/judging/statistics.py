"""Intervals: how far a figure can be trusted, given the prompts and the trainings behind it.

Prompts that share a drawing, or a held-out pair, are right and wrong together: what is resampled is the
cluster (Davison & Hinkley 1997, sec. 3.8), each prompt its own where nothing is said of clusters. Three
intervals:

- a share of one training: Gaffke's (below), which holds for any correlation within clusters and any number
  of them. Percentiles of the bootstrap hold the truth in 21 to 96 of 100 cases with 10 to 200 clusters and
  shares of 0.3 to 0.99, this one in 94 to 100; of prompts that are their own clusters it is Clopper &
  Pearson's.
- other means: the cluster bootstrap, its deviations widened to Student's t with clusters - 1 degrees of
  freedom (Hesterberg 2015, sec. 4.5).
- trainings from several seeds are too few to be resampled: their spread is a component of variance (two-way
  layout, seeds x prompts) and enters each resample as Student's t with seeds - 1 degrees of freedom (measured
  coverage of a mean: 91 to 93 % with 3 to 8 seeds). With one seed an interval speaks of that training alone.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import beta, t

LEVEL = (0.025, 0.975)  # a two-sided 95 % interval
Z_TWO_SIDED_5 = 1.96
Z_POWER_80 = 0.8416  # a difference is found in four of five repetitions

Scores = Float[np.ndarray, "n"] | Float[np.ndarray, "s n"] | Bool[np.ndarray, "n"] | Bool[np.ndarray, "s n"]
"""One score per prompt, or one row of them per training seed."""
Clusters = Int[np.ndarray, "n"] | None
"""One label per prompt; `None` where every prompt is its own cluster."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % interval over n prompts."""

    value: float
    low: float
    high: float
    n: int
    clusters: int | None = None
    """Drawings or pairs that the prompts fall into, where the interval is over these."""

    def to_json(self) -> dict[str, float | int]:
        return {name: round(value, 4) for name, value in asdict(self).items() if value is not None}


def bootstrap_mean(
    values: Scores, *, samples: int, rng: np.random.Generator, clusters: Clusters = None
) -> Estimate:
    """Mean of `values` with its interval; rows of several seeds widen it by their spread.

    A share that is 1 has room for what one more cluster could be: 500 of 500 right may be 99.3 % where each
    prompt is its own, and 94.9 % where they fall into 70 drawings, since right pictures alone cannot say that
    a 71st drawing is not wrong throughout.

    Raises:
        ValueError: there are no values.
    """
    numbers = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if numbers.shape[1] == 0:
        raise ValueError("no values to average")
    value, n = float(numbers.mean()), numbers.shape[1]
    count = None if clusters is None else len(np.unique(clusters))
    if np.isin(numbers, (0, 1)).all() and (len(numbers) == 1 or value in (0, 1)):
        return Estimate(value, *_share_interval(numbers.mean(axis=0), clusters, samples, rng), n, count)
    draws = resample_means([numbers], samples=samples, rng=rng, clusters=clusters)[:, 0]
    return summarise(value, draws=draws, n=n, clusters=count)


def summarise(
    value: float, *, draws: Float[np.ndarray, "samples"], n: int, clusters: int | None = None
) -> Estimate:
    """`value` with the interval that holds the middle 95 % of its resamples."""
    low, high = np.quantile(draws, LEVEL)
    return Estimate(float(value), float(low), float(high), n, clusters)


def _share_interval(
    right: Float[np.ndarray, "n"], clusters: Clusters, samples: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Gaffke's bounds (2005; Learned-Miller & Thomas 2020) of a mean of what lies in [0, 1].

    The mean over clusters with Dirichlet weights, one cluster of 0 added for the lower bound, of 1 for the
    upper. Of single right and wrong ones these are the quantiles of a beta distribution.
    """
    if clusters is None:
        good, bad = float(right.sum()), float((1 - right).sum())
        return (
            float(beta.ppf(LEVEL[0], good, bad + 1)) if good else 0.0,
            float(beta.ppf(LEVEL[1], good + 1, bad)) if bad else 1.0,
        )
    sums, sizes = cluster_sums(right[None], clusters)
    (outcomes, of_size), counts = np.unique(np.stack([sums[0], sizes]), axis=1, return_counts=True)
    weights = rng.standard_gamma(counts, size=(samples, len(counts)))  # of clusters alike, together
    added = sizes.mean() * rng.standard_exponential(samples)
    good, total = weights @ outcomes, weights @ of_size + added
    low, high = np.quantile(good / total, LEVEL[0]), np.quantile((good + added) / total, LEVEL[1])
    return (float(low) if good.any() else 0.0, float(high) if sums.sum() < len(right) else 1.0)


def cluster_sums(
    values: Float[np.ndarray, "k n"], clusters: Clusters
) -> tuple[Float[np.ndarray, "k c"], Float[np.ndarray, "c"]]:
    """Sum over each cluster and its size."""
    if clusters is None:
        return values, np.ones(values.shape[1])
    _, index = np.unique(clusters, return_inverse=True)
    member = (index == np.arange(index.max() + 1)[:, None]).astype(np.float64)  # (c, n)
    return values @ member.T, member.sum(axis=1)


def resample_means(
    scores: Sequence[Scores], *, samples: int, rng: np.random.Generator, clusters: Clusters = None
) -> Float[np.ndarray, "samples k"]:
    """Means of k methods over the same resampled clusters, each with the spread of its training seeds.

    Raises:
        ValueError: there are no prompts, or the methods were judged on different numbers of them.
    """
    tables = as_tables(scores)
    sums, sizes = cluster_sums(np.stack([table.mean(axis=0) for table in tables]), clusters)
    # resampling clusters with replacement = drawing how often each distinct outcome occurs
    outcomes, counts = np.unique(np.vstack([sums, sizes]), axis=1, return_counts=True)
    drawn = rng.multinomial(len(sizes), counts / len(sizes), size=samples) @ outcomes.T
    centre = sums.sum(axis=1) / sizes.sum()
    means = centre + small_sample_widening(len(sizes)) * (drawn[:, :-1] / drawn[:, -1:] - centre)
    for method, table in enumerate(tables):
        if spread := seed_spread(table):
            means[:, method] += spread * rng.standard_t(len(table) - 1, size=samples)
    return means


def small_sample_widening(clusters: int) -> float:
    """By how much deviations of resamples of so many clusters fall short of Student's t (Hesterberg 2015)."""
    free = max(1, clusters - 1)
    return float(math.sqrt((free + 1) / free) * t.ppf(LEVEL[1], free) / Z_TWO_SIDED_5)


def as_tables(scores: Sequence[Scores]) -> list[Float[np.ndarray, "s n"]]:
    """Seeds x prompts of each method.

    Raises:
        ValueError: there are no prompts, or the methods were judged on different numbers of them.
    """
    tables = [np.atleast_2d(np.asarray(values, dtype=np.float64)) for values in scores]
    sizes = {table.shape[1] for table in tables}
    if sizes in (set(), {0}):
        raise ValueError("no values to average")
    if len(sizes) > 1:
        raise ValueError(f"the methods were judged on different numbers of prompts: {sorted(sizes)}")
    return tables


def seed_spread(table: Float[np.ndarray, "s n"]) -> float:
    """Standard error of a mean over s trainings that comes from the trainings, not from the prompts."""
    seeds, n = table.shape
    if seeds == 1 or n == 1:
        return 0.0
    of_seed, of_prompt = table.mean(axis=1, keepdims=True), table.mean(axis=0, keepdims=True)
    residual = table - of_seed - of_prompt + table.mean()
    noise = (residual**2).sum() / ((seeds - 1) * (n - 1))  # mean square of seeds x prompts
    between = of_seed.var(ddof=1) - noise / n
    return math.sqrt(max(0.0, between) / seeds)


def probability_best(
    scores: Sequence[Scores], *, samples: int, rng: np.random.Generator, clusters: Clusters = None
) -> Float[np.ndarray, "k"]:
    """For each of k methods the share of resamples in which it leads; leaders share a tie equally."""
    draws = resample_means(scores, samples=samples, rng=rng, clusters=clusters)
    leads = draws >= draws.max(axis=1, keepdims=True) - 1e-12
    return (leads / leads.sum(axis=1, keepdims=True)).mean(axis=0)
