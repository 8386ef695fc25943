"""A metric as a user would add it: one function that measures it, and one row of the table."""

import numpy as np

from salon.images import to_float
from salon.judging.jury import JudgedImages
from salon.judging.metrics import Metric
from salon.judging.sentinel_rules import NOISE, REAL, Rule
from salon.judging.statistics import Estimate, bootstrap_mean


def roughness(seen: JudgedImages) -> Estimate:
    """Mean difference between neighbouring pixels."""
    images = to_float(seen.images)
    steps = (images[..., 1:] - images[..., :-1]).abs().mean(dim=(1, 2, 3))
    options = seen.jury.bootstrap
    rng = np.random.default_rng(options["seed"])
    return bootstrap_mean(steps.numpy(), samples=options["bootstrap_samples"], rng=rng)


ROUGHNESS = Metric(
    name="roughness",
    title="roughness",
    means="how much do neighbouring pixels differ?",
    measure=roughness,
    judge=None,
    better="as real",
    rules=(Rule("test/roughness", REAL, NOISE, "lower"),),
    card="roughness, how much neighbouring pixels differ",
)
