"""Several full trainings against planted truth: equal methods stay equal, and a real difference is found."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.special import digamma, expit, polygamma
from scipy.stats import t

from salon.judging.comparison import compare_all
from salon.judging.replicates import Trained, compare_trained, mean_of, spreads
from salon.judging.statistics import Estimate

PROMPTS = 500


def figure(values: Sequence[float], *, error: float = 0.01) -> Trained:
    """A figure with this standard error over prompts in each training."""
    return Trained([Estimate(v, v - 1.96 * error, v + 1.96 * error, PROMPTS) for v in values])


def plant(
    rng: np.random.Generator, truth: Sequence[float], *, spread: float, error: float, uneven: float = 0.0
) -> list[Trained]:
    """Three trainings of each method: truth, prompts that all share, and luck of unequal size."""
    methods = []
    for value in truth:
        own = spread * math.exp(uneven * rng.standard_normal())
        shared = value + error * rng.standard_normal()
        methods.append(figure(shared + own * rng.standard_normal(3), error=error))
    return methods


def right_or_wrong(rng: np.random.Generator, accuracies: Sequence[float], *, luck: float) -> list[Trained]:
    """Three trainings each, on prompts some of which are hard for all, others for one method."""
    hard = 2 * rng.standard_normal(PROMPTS)
    methods = []
    for accuracy in accuracies:
        logits = hard + 0.7 * rng.standard_normal(PROMPTS)
        low, high = -20.0, 40.0
        for _ in range(60):
            ease = (low + high) / 2
            low, high = (ease, high) if expit(logits + ease).mean() < accuracy else (low, ease)
        scores = np.stack(
            [rng.random(PROMPTS) < expit(logits + ease + luck * rng.standard_normal()) for _ in range(3)]
        ).astype(float)
        errors = [math.sqrt(max(v, 1 / PROMPTS) * (1 - v) / PROMPTS) for v in scores.mean(axis=1)]
        estimates = [
            Estimate(v, v - 1.96 * e, min(1, v + 1.96 * e), PROMPTS)
            for v, e in zip(scores.mean(axis=1), errors, strict=True)
        ]
        methods.append(Trained(estimates, scores))
    return methods


def tables_with_a_find(tables: Sequence[list[Trained]]) -> float:
    found = [any(pair.distinguishable for pair in compare_trained(each).values()) for each in tables]
    return float(np.mean(found))


@pytest.mark.parametrize(
    ("error", "uneven"), [(1e-6, 0.0), (0.01, 0.0), (0.02, 0.0), (1e-6, 0.5), (0.01, 0.5), (0.01, 1.0)]
)
def test_five_equal_methods_are_told_apart_in_few_tables(error: float, uneven: float) -> None:
    rng = np.random.default_rng(3)
    tables = [plant(rng, [0.3] * 5, spread=0.02, error=error, uneven=uneven) for _ in range(400)]
    assert tables_with_a_find(tables) < 0.07  # 0.05 give or take 0.011


@pytest.mark.parametrize(("accuracy", "luck"), [(0.9, 0.0), (0.99, 0.0), (0.99, 0.5), (0.999, 0.0)])
def test_nor_where_nearly_all_pictures_are_right(accuracy: float, luck: float) -> None:
    rng = np.random.default_rng(5)
    tables = [right_or_wrong(rng, [accuracy] * 5, luck=luck) for _ in range(200)]
    assert tables_with_a_find(tables) < 0.09  # 0.05 give or take 0.015


def test_single_trainings_held_against_the_spread_of_others_are_told_apart_in_few_tables() -> None:
    """What one training of each seems to show, and what is left of it."""
    rng = np.random.default_rng(17)
    believed, left = 0, 0
    for _ in range(100):
        study = right_or_wrong(rng, [0.9] * 5, luck=0.5)
        now = [each.scores[:1] for each in right_or_wrong(rng, [0.9] * 5, luck=0.5)]
        believed += any(pair.distinguishable for pair in compare_all(now).values())
        held = compare_all(now, spreads=spreads(study)).values()
        left += any(pair.distinguishable for pair in held)
    assert believed > 40
    assert left < 12


def test_a_difference_of_six_spreads_is_found_with_three_trainings() -> None:
    rng = np.random.default_rng(7)
    found = 0
    for _ in range(200):
        pairs = compare_trained(plant(rng, [0.3, 0.3, 0.3, 0.3, 0.42], spread=0.02, error=0.005))
        found += all(pairs[i, 4].distinguishable for i in range(4))
    assert found >= 180  # of 200


def test_prompts_that_one_training_alone_finds_hard_do_not_count_twice() -> None:
    """Pairs of scores whose trainings agree on nothing: all of their spread is between trainings."""
    rng = np.random.default_rng(11)
    first, second = (
        Trained([Estimate(float(row.mean()), 0.4, 0.6, 2000) for row in scores], scores)
        for scores in (rng.random((2, 3, 2000)) < 0.5).astype(float)
    )
    (pair,) = compare_trained([first, second]).values()
    reach = (pair.difference.high - pair.difference.low) / 2
    variances = [variance for variance, _ in spreads([first, second])]
    free = min(degrees for _, degrees in spreads([first, second]))
    assert reach == pytest.approx(math.sqrt(sum(variances) / 3) * t.ppf(0.975, free), rel=0.35)


def test_intervals_of_a_mean_hold_the_truth() -> None:
    rng = np.random.default_rng(13)
    held = []
    for _ in range(400):
        trained = plant(rng, [0.3] * 5, spread=0.02, error=0.01)
        means = [mean_of(each, spread) for each, spread in zip(trained, spreads(trained), strict=True)]
        held += [mean.low <= 0.3 <= mean.high for mean in means]
    assert 0.93 < np.mean(held) < 0.99


def test_a_saturated_share_keeps_its_lopsided_interval() -> None:
    ones = np.ones((3, PROMPTS))
    perfect = Trained([Estimate(1.0, 0.9927, 1.0, PROMPTS)] * 3, ones)
    mean = mean_of(perfect, spreads([perfect, perfect])[0])
    assert (mean.value, mean.high) == (1.0, 1.0)
    assert mean.low == pytest.approx(0.9927, abs=5e-4)


def test_spreads_that_differ_by_chance_are_one_spread() -> None:
    values = [[0.30, 0.31, 0.32], [0.40, 0.412, 0.42], [0.50, 0.51, 0.521]]
    pooled = np.mean([np.var(each, ddof=1) for each in values])
    for variance, free in spreads([figure(each) for each in values]):
        assert variance == pytest.approx(pooled, rel=0.05)
        assert free == 6


def test_spreads_that_differ_beyond_chance_are_drawn_together_by_what_the_data_justify() -> None:
    """Smyth's prior by its definition: moments of the log variances, solved anew here by bisection."""
    variances = np.array([1e-6, 4e-6, 1e-3, 9e-4, 2.5e-5])
    trained = [figure([0.5 - math.sqrt(v), 0.5, 0.5 + math.sqrt(v)]) for v in variances]
    logs = np.log(variances) - digamma(1.0) + np.log(1.0)
    excess = logs.var(ddof=1) - polygamma(1, 1.0)
    low, high = 1e-2, 1e4
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if polygamma(1, middle / 2) > excess else (low, middle)
    prior = math.exp(logs.mean() + digamma(low / 2) - math.log(low / 2))
    for (variance, free), own in zip(spreads(trained), variances, strict=True):
        assert free == pytest.approx(low + 2, rel=1e-3)
        assert variance == pytest.approx((low * prior + 2 * own) / (low + 2), rel=1e-3)


def test_one_training_borrows_the_spread_of_the_others_and_nobodys_is_an_error() -> None:
    several = [figure([0.30, 0.31, 0.32]), figure([0.40, 0.41, 0.42]), figure([0.9])]
    variance, free = spreads(several)[2]
    assert (variance, free) == (pytest.approx(1e-4, rel=0.01), 4)
    with pytest.raises(ValueError, match="shows no spread"):
        spreads([figure([0.5]), figure([0.6])])
