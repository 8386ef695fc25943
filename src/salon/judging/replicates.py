"""Several full trainings of each method: what holds for the method, and not for one set of weights.

A figure of method m in training r is mu_m + P + T_mr: what the prompts do, which all trainings share, and
what the training does (crossed two-way layout). The trainings are few, so that

- their spread is pooled over the families on a log scale (Smyth 2004, sec. 6.2): where the log variances of
  the methods differ no more than chance makes them differ, the pooled one counts beside a method's own for as
  many degrees of freedom as the others have; where they differ more, for as many as the data justify;
- the interval of a mean puts Student's t for the trainings and the interval over prompts together by the
  square root of their squares (Zou & Donner 2008), so that a share near 1 keeps its lopsided one;
- a pair is told apart by Student's t with the degrees of freedom of the trainings, which are fewer than those
  of the prompts, adjusted for all pairs (Holm). Satterthwaite's would tell five equal methods apart in 8 to
  10 of 100 tables where some spreads are thrice others.
  Trainings with one seed share towers, which makes them alike, if anything: counting them as independent
  tells fewer apart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import digamma, polygamma, stdtrit

from salon.judging.comparison import Comparison, Component, Difference, combine, together
from salon.judging.statistics import LEVEL, Z_TWO_SIDED_5, Clusters, Estimate, cluster_sums

FEWEST = 3  # trainings of a method below which nothing is said of it as a method
ROUNDED = 1e-4  # to which a record keeps its figures
SOLVABLE = (1e-3, 1e6)  # prior degrees of freedom: less is no prior, more is one variance for all


@dataclass(frozen=True)
class Trained:
    """One figure of one method, by training."""

    estimates: Sequence[Estimate]
    """Each with its interval over prompts."""
    scores: Float[np.ndarray, "r n"] | None = None
    """What it is the mean of, where it is one: prompt by prompt."""

    @property
    def values(self) -> Float[np.ndarray, "r"]:
        return np.array([estimate.value for estimate in self.estimates])

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def free(self) -> int:
        """Degrees of freedom of its own spread."""
        return len(self.estimates) - 1

    @property
    def step(self) -> float:
        """Differences that the figure cannot show."""
        return ROUNDED if self.scores is None else 1 / self.scores.shape[1]

    @property
    def variance(self) -> float:
        """Of one training; never less than what the figure's step hides."""
        own = float(self.values.var(ddof=1)) if self.free else 0.0
        return max(own, self.step**2 / 12)

    @property
    def over_prompts(self) -> Component:
        """Variance of the mean over prompts, trainings aside, and its degrees of freedom."""
        halves = [(each.high - each.low) / (2 * Z_TWO_SIDED_5) for each in self.estimates]
        first = self.estimates[0]
        return float(np.mean(np.square(halves))), max(1.0, (first.clusters or first.n) - 1.0)


def spreads(trained: Sequence[Trained]) -> list[Component]:
    """Variance of one training of each method, drawn towards the others, with its degrees of freedom.

    A method that was trained once says nothing of its own spread and has that of the others.

    Raises:
        ValueError: none was trained twice.
    """
    several = [each for each in trained if each.free > 0]
    if not several:
        raise ValueError("one training of each method shows no spread")
    free = np.array([each.free for each in several], dtype=float)
    prior, prior_free = _prior(np.array([each.variance for each in several]), free)
    found = []
    for each in trained:
        # the others are worth no more than the trainings that they had, however alike they look
        worth = min(prior_free, float(free.sum()) - each.free)
        degrees = worth + each.free
        if not degrees:
            raise ValueError("the others' spreads are too unlike to stand for that of a single training")
        found.append(((worth * prior + each.free * each.variance) / degrees, degrees))
    return found


def _prior(variances: Float[np.ndarray, "k"], free: Float[np.ndarray, "k"]) -> tuple[float, float]:
    """The variance that a method is expected to have, and how many degrees of freedom that is worth."""
    logs = np.log(variances) - digamma(free / 2) + np.log(free / 2)
    if len(logs) == 1:
        return float(variances[0]), 0.0
    excess = float(logs.var(ddof=1) - polygamma(1, free / 2).mean())  # beyond chance
    if excess <= float(polygamma(1, SOLVABLE[1] / 2)):
        # as alike as chance would have them: pooled as variances, the more precise mean of the two
        return float((free * variances).sum() / free.sum()), math.inf
    if excess >= float(polygamma(1, SOLVABLE[0] / 2)):
        return float(np.exp(logs.mean())), 0.0
    degrees = float(brentq(lambda d: polygamma(1, d / 2) - excess, *SOLVABLE))
    return float(np.exp(logs.mean() + digamma(degrees / 2) - math.log(degrees / 2))), degrees


def mean_of(trained: Trained, spread: Component) -> Estimate:
    """Mean over trainings; its interval holds for other trainings and other prompts."""
    variance, free = spread
    reach = math.sqrt(variance / len(trained.estimates)) * float(stdtrit(free, LEVEL[1]))
    below = np.mean([each.value - each.low for each in trained.estimates])
    above = np.mean([each.high - each.value for each in trained.estimates])
    low, high = trained.mean - math.hypot(reach, below), trained.mean + math.hypot(reach, above)
    if trained.scores is not None:
        low, high = max(low, 0.0), min(high, 1.0)
    first = trained.estimates[0]
    return Estimate(trained.mean, low, high, first.n, first.clusters)


def compare_trained(
    trained: Sequence[Trained], *, clusters: Clusters = None
) -> dict[tuple[int, int], Comparison]:
    """Comparisons of every method with every later one over trainings and prompts, which hold together."""
    variances = spreads(trained)
    found = {}
    for i, j in combinations(range(len(trained)), 2):
        parts = [(variances[k][0] / len(trained[k].estimates), variances[k][1]) for k in (i, j)]
        # the two variances are drawn towards one and the same: their degrees of freedom do not add up
        over_trainings = (sum(variance for variance, _ in parts), min(free for _, free in parts))
        over_prompts = _shared_prompts(trained[i], trained[j], clusters)
        error, _ = combine([over_trainings, *over_prompts])
        value = trained[i].mean - trained[j].mean
        found[i, j] = Difference(
            value, error, over_trainings[1], spread=error * math.sqrt(trained[i].estimates[0].n)
        )
    first = trained[0].estimates[0]
    return together(found, n=first.n, clusters=first.clusters)


def _shared_prompts(first: Trained, second: Trained, clusters: Clusters) -> list[Component]:
    """What the prompts add to the difference of two means, beyond what each training shows anew."""
    if first.scores is None or second.scores is None:
        return [first.over_prompts, second.over_prompts]
    apart = first.scores.mean(axis=0) - second.scores.mean(axis=0)
    (sums,), sizes = cluster_sums(apart[None], clusters)
    free = max(1.0, sizes.size - 1.0)
    n = apart.size
    total = float(((sums - sizes * apart.mean()) ** 2).sum() / n**2 * (free + 1) / free)
    noise = sum(_own_noise(each.scores, clusters) for each in (first, second))
    return [(max(0.0, total - noise), free)]


def _own_noise(scores: Float[np.ndarray, "r n"] | None, clusters: Clusters) -> float:
    """Variance of the mean by what a prompt does in one training alone, which the trainings' spread holds."""
    assert scores is not None
    trainings, n = scores.shape
    if trainings < 2:
        return 0.0
    residual = scores - scores.mean(axis=0) - scores.mean(axis=1, keepdims=True) + scores.mean()
    sums, _ = cluster_sums(residual, clusters)
    return float((sums**2).sum() / ((trainings - 1) * trainings * n**2))
