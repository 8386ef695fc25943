"""Intervals: how far a figure can be trusted, given the prompts it was measured on."""

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % percentile-bootstrap interval over n prompts."""

    value: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, float | int]:
        return {name: round(value, 4) for name, value in asdict(self).items()}


def bootstrap_mean(
    values: Float[np.ndarray, "n"] | Bool[np.ndarray, "n"], *, samples: int, rng: np.random.Generator
) -> Estimate:
    """Mean of `values` with the percentile bootstrap of Efron 1979 over prompts.

    Raises:
        ValueError: there are no values.
    """
    n = len(values)
    if n == 0:
        raise ValueError("no values to average")
    numbers = np.asarray(values, dtype=np.float64)
    if np.all(np.isin(numbers, (0, 1))):
        # resampling 0/1 values n times with replacement is one binomial draw
        means = rng.binomial(n, numbers.mean(), size=samples) / n
    else:
        means = numbers[rng.integers(n, size=(samples, n))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    if low == high:
        # the bootstrap cannot see what it never drew: all right (or all wrong) in n trials still leaves room
        # for 3.7/n, the exact (Clopper-Pearson) bound of a two-sided 95 % interval
        room = 1 - 0.025 ** (1 / n)
        low, high = (1 - room, 1.0) if low == 1 else (0.0, room) if low == 0 else (low, high)
    return Estimate(float(numbers.mean()), float(low), float(high), n)
