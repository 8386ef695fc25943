"""Findings of a contest, against answers known by hand, by another estimator, or by simulation."""

import math

import numpy as np
import pytest
import torch
from scipy.special import ndtr

from salon.judging.contest import Finding, compare_shares, compare_spreads, tango_p
from salon.judging.fidelity import compare_kid, kid


@pytest.mark.parametrize(
    ("won", "lost", "n", "limit"), [(3, 1, 20, -0.1), (0, 3, 60, -0.05), (9, 4, 50, 0.1)]
)
def test_tango_takes_the_variance_of_the_likeliest_shares(won: int, lost: int, n: int, limit: float) -> None:
    of_lost = np.linspace(max(0, -limit), min(1, (1 - limit) / 2), 200_001)[1:-1]  # won = lost + limit
    likelihood = sum(
        count * np.log(np.maximum(share, 1e-300))
        for count, share in (
            (won, of_lost + limit),
            (lost, of_lost),
            (n - won - lost, 1 - 2 * of_lost - limit),
        )
    )
    best = of_lost[np.argmax(likelihood)]
    error = math.sqrt(n * (2 * best + limit - limit**2))
    assert tango_p(won, lost, n, limit=limit) == pytest.approx(
        ndtr((n * limit - won + lost) / error), abs=1e-4
    )


def test_nothing_lost_of_a_few_is_no_proof_that_nothing_can_be() -> None:
    few, many = (compare_shares(np.ones(n, bool), np.ones(n, bool)) for n in (200, 500))
    assert few.p(-0.01) > 0.05 > many.p(-0.01)
    assert many.low(0.05) == pytest.approx(-(1.645**2) / (500 + 1.645**2), abs=1e-4)  # by hand from eq. 7


def test_what_is_lost_in_one_drawing_weighs_more_than_what_is_lost_all_over() -> None:
    ours, drawings = np.ones(600, bool), np.repeat(np.arange(20), 30)
    ours[:18] = False  # of one drawing
    together = compare_shares(ours, np.ones(600, bool), clusters=drawings)
    apart = compare_shares(ours, np.ones(600, bool), clusters=np.arange(600) % 20)
    assert (together.won, together.lost, together.clusters) == (0, 18, 20)
    assert together.low(0.05) < 1.5 * apart.low(0.05) < 0


def test_the_interval_ends_where_p_is_its_level() -> None:
    for finding in (
        compare_shares(np.arange(300) % 50 > 0, np.arange(300) % 40 > 0),
        Finding(0.4, 0.5, 0.03, n=200, clusters=40, lower_is_better=True),
    ):
        assert finding.p(finding.low(0.05)) == pytest.approx(0.05, abs=1e-6)
    assert Finding(0.4, 0.5, 0.03, n=200, clusters=40, lower_is_better=True).gain == pytest.approx(0.1)


def test_one_drawing_proves_nothing() -> None:
    alone = np.zeros(50, int)
    assert compare_shares(np.ones(50, bool), np.zeros(50, bool), clusters=alone).p() == 1
    x = torch.randn(50, 8)
    assert compare_kid(x, x + 1, x, drawings=(alone, alone), scale=1).p() == 1


def test_spreads_are_shares_of_the_real_one() -> None:
    rng = np.random.default_rng(0)
    real, drawings = rng.gamma(3, size=400), rng.integers(40, size=400)
    found = compare_spreads(real / 4, real, real, clusters=drawings)
    assert (found.challenger, found.champion) == pytest.approx((0.5, 1))
    assert found.p(-0.05) > 0.99
    assert compare_spreads(real, real, real, clusters=drawings).p(-0.05) < 0.01


def features(
    rng: np.random.Generator, models: int, *, drawings: int = 40, n: int = 160, own: float = 0.3
) -> tuple[list[torch.Tensor], torch.Tensor, tuple[np.ndarray, np.ndarray]]:
    """Models that are equal in expectation, each with peculiarities per drawing, on the same prompts."""
    centre = rng.normal(size=(drawings, 8))
    of_prompts, of_real = rng.integers(drawings, size=n), rng.integers(drawings, size=n)
    noise = rng.normal(size=(n, 8))
    drawn = [
        (centre + own * rng.normal(size=centre.shape) + 0.5)[of_prompts]
        + 0.5 * (noise + rng.normal(size=noise.shape))
        for _ in range(models)
    ]
    real = centre[of_real] + 0.7 * rng.normal(size=noise.shape)
    return [torch.from_numpy(each) for each in drawn], torch.from_numpy(real), (of_prompts, of_real)


def test_kid_of_two_models_is_kid_of_each_and_its_error_what_repetition_gives() -> None:
    rng = np.random.default_rng(3)
    found = []
    for _ in range(100):
        drawn, real, drawings = features(rng, 2)
        found.append(compare_kid(*drawn, real, drawings=drawings, scale=2.0))
    alone = [kid(each, real, bootstrap_samples=1, rng=rng).value / 2 for each in drawn]
    assert (found[-1].challenger, found[-1].champion) == pytest.approx(alone)
    spread = np.std([each.gain for each in found])
    assert 0.9 < np.sqrt(np.mean([each.error**2 for each in found])) / spread < 1.4
