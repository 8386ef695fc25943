"""What is tried of a sampler's settings: one prior per setting, whatever the family; one random search.

The numbers behind the draws are a Latin hypercube (McKay 1979): of n trials each setting has one in every
n-th part of its range. They follow from the seed and the setting's name, so that the same trial of two
methods tries the same guidance.
"""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


class Prior(ABC):
    """What a setting may be, and how often."""

    @abstractmethod
    def at(self, share: float) -> float:
        """The value below which `share` of the draws lie."""


@dataclass(frozen=True)
class LogUniform(Prior):
    """From `low` to `high`, as often below their geometric mean as above."""

    low: float
    high: float
    whole: bool = False

    def at(self, share: float) -> float:
        value = self.low * (self.high / self.low) ** share
        return round(value) if self.whole else round(value, 2)


@dataclass(frozen=True)
class Choice(Prior):
    """One of some values, each as often."""

    values: Sequence[float]

    def at(self, share: float) -> float:
        return self.values[min(int(share * len(self.values)), len(self.values) - 1)]


PRIORS: Mapping[str, Prior] = {
    "guidance_scale": LogUniform(1, 5),
    "temperature": LogUniform(0.3, 1),
    "num_inference_steps": LogUniform(3, 16, whole=True),
    "refinement": Choice((0.0, 0.05, 0.1, 0.15)),
    "candidates": Choice((1, 2, 4)),
}


def draw_trials(
    own: Mapping[str, float], *, trials: int, seed: int, most_steps: int
) -> list[dict[str, float]]:
    """The settings of each trial: first `own`, then draws; what was drawn before is not tried again.

    Args:
        own: The settings that are searched, as the method's config has them.
        most_steps: More `num_inference_steps` the method does not take.
    """
    found = [dict(own)]
    columns = {name: PRIORS[name] for name in own}
    shares = {name: _shares(name, trials - 1, seed) for name in columns}
    for place in range(trials - 1):
        drawn = {name: prior.at(shares[name][place]) for name, prior in columns.items()}
        if "num_inference_steps" in drawn:
            drawn["num_inference_steps"] = min(drawn["num_inference_steps"], most_steps)
        if drawn not in found:
            found.append(drawn)
    return found


def _shares(name: str, count: int, seed: int) -> Sequence[float]:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    places = rng.permutation(count) + rng.random(count)
    return [float(place / count) for place in places]
