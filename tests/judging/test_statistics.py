"""Intervals and decisions against data whose answer is known."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binom

from salon.judging.statistics import (
    bootstrap_mean,
    compare,
    compare_all,
    probability_best,
    prompts_to_tell,
    resample_means,
)

DRAWS = 1000
SAMPLES = 1000


def draw_difficulties(mean: float, prompts: int, rng: np.random.Generator) -> np.ndarray:
    """How likely each prompt is drawn right: some are easy for everybody, some hard."""
    return rng.beta(3 * mean, 3 * (1 - mean), size=prompts)


@pytest.mark.parametrize(("mean", "prompts"), [(0.5, 100), (0.85, 500), (0.98, 500)])
def test_two_identical_samplers_are_told_apart_in_about_5_of_100_draws(mean: float, prompts: int) -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(DRAWS):
        right = draw_difficulties(mean, prompts, rng)
        a, b = rng.random((2, prompts)) < right
        found.append(compare(a, b, samples=SAMPLES, rng=rng).distinguishable)
    assert 0.03 <= np.mean(found) <= 0.07


def test_identical_samplers_of_continuous_scores_are_told_apart_in_about_5_of_100_draws() -> None:
    rng = np.random.default_rng(2)
    found = []
    for _ in range(DRAWS):
        easy = rng.normal(size=60)
        a, b = easy + rng.exponential(size=(2, 60))
        found.append(compare(a, b, samples=300, rng=rng).distinguishable)
    assert 0.03 <= np.mean(found) <= 0.075  # 60 skewed values: the percentile bootstrap is a little narrow


def test_of_five_equal_methods_any_two_are_told_apart_in_about_5_of_100_tables() -> None:
    rng = np.random.default_rng(11)
    together, alone = [], []
    for _ in range(DRAWS):
        right = draw_difficulties(0.8, 150, rng)
        tables = sorted(rng.random((5, 150)) < right, key=lambda table: -table.mean())
        found = compare_all(tables, samples=400, rng=rng)
        together.append(any(pair.distinguishable for pair in found.values()))
        alone.append(compare(tables[0], tables[-1], samples=400, rng=rng).distinguishable)
    assert 0.03 <= np.mean(together) <= 0.07
    assert np.mean(alone) > 0.15


def test_two_methods_alone_and_one_among_many_that_is_far_behind() -> None:
    rng = np.random.default_rng(12)
    a, b = rng.random((2, 300)) < 0.8
    noise = np.zeros(300, dtype=bool)
    pair = compare_all([a, b], samples=SAMPLES, rng=np.random.default_rng(0))[0, 1]
    assert pair == compare(a, b, samples=SAMPLES, rng=np.random.default_rng(0))
    found = compare_all([a, b, b, noise], samples=SAMPLES, rng=np.random.default_rng(0))
    assert list(found) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert found[0, 3].distinguishable
    assert found[1, 3].distinguishable
    assert (found[1, 2].difference.low, found[1, 2].difference.high, found[1, 2].more_prompts) == (0, 0, None)
    assert (
        found[0, 1].difference.high - found[0, 1].difference.low > pair.difference.high - pair.difference.low
    )
    assert found[0, 1].prompts_needed > pair.prompts_needed


@pytest.mark.parametrize("seed_spread", [0.0, 0.03])
def test_trainings_that_differ_by_their_seeds_alone_are_rarely_told_apart(seed_spread: float) -> None:
    """Three trainings a method. Prompts alone would call them different far more often."""
    rng = np.random.default_rng(3)
    of_trainings, of_prompts = [], []
    for _ in range(DRAWS):
        right = draw_difficulties(0.8, 400, rng)
        luck = seed_spread * rng.normal(size=(2, 3, 1))
        a, b = rng.random((2, 3, 400)) < right + luck
        of_trainings.append(compare(a, b, samples=300, rng=rng).distinguishable)
        of_prompts.append(compare(a[0], b[0], samples=300, rng=rng).distinguishable)
    assert 0.005 <= np.mean(of_trainings) <= 0.07
    if seed_spread:
        assert np.mean(of_prompts) > 0.15


def test_a_real_difference_is_found_with_the_power_that_was_promised() -> None:
    rng = np.random.default_rng(4)
    difference, spread = 0.05, 0.4
    prompts = prompts_to_tell(difference, spread=spread)
    assert prompts == 503  # ((1.96 + 0.8416) * 0.4 / 0.05) ** 2
    found = []
    for _ in range(DRAWS):
        lead = rng.choice([-1, 0, 1], size=prompts, p=[0.0562, 0.8376, 0.1062])  # mean 0.05, std 0.4
        comparison = compare(lead > 0, lead < 0, samples=300, rng=rng)
        found.append(comparison.distinguishable and comparison.difference.value > 0)
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)


def test_what_cannot_be_told_apart_says_how_many_more_prompts_would() -> None:
    a = np.array([1] * 55 + [0] * 45)
    b = np.array([1] * 50 + [0] * 45 + [1] * 5)  # five prompts each that the other gets wrong, and a tie
    tie = compare(a, b, samples=SAMPLES, rng=np.random.default_rng(0))
    assert (tie.difference.value, tie.distinguishable, tie.more_prompts) == (0, False, None)
    assert tie.probability_better == pytest.approx(0.5, abs=0.05)

    a[60] = 1
    close = compare(a, b, samples=SAMPLES, rng=np.random.default_rng(0))
    assert not close.distinguishable
    needed = prompts_to_tell(0.01, spread=float((a - b).std()))
    assert close.more_prompts == needed - 100 > 0


def test_pairing_finds_what_unpaired_prompts_hide() -> None:
    rng = np.random.default_rng(5)
    hard = rng.random(300) < 0.5
    better = hard | (np.arange(300) % 25 == 0)
    assert compare(better, hard, samples=SAMPLES, rng=rng).distinguishable
    assert not compare(better, rng.permutation(hard), samples=SAMPLES, rng=rng).distinguishable


def test_the_same_pictures_twice_are_the_same() -> None:
    values = np.random.default_rng(6).random(200) < 0.7
    same = compare(values, values, samples=SAMPLES, rng=np.random.default_rng(0))
    assert (same.difference.low, same.difference.high, same.probability_better) == (0, 0, 0.5)
    assert not same.distinguishable


def test_probability_of_being_best_by_hand() -> None:
    rng = np.random.default_rng(7)
    equal = [rng.random(500) < 0.8] * 4
    assert probability_best(equal, samples=SAMPLES, rng=rng) == pytest.approx([0.25] * 4)
    clear = [np.ones(100), np.zeros(100), np.zeros(100)]
    assert probability_best(clear, samples=SAMPLES, rng=rng) == pytest.approx([1, 0, 0])


def test_being_best_of_three_equals_is_a_lottery() -> None:
    rng = np.random.default_rng(8)
    chances = [probability_best(list(rng.random((3, 200)) < 0.7), samples=200, rng=rng) for _ in range(300)]
    assert np.mean(chances, axis=0) == pytest.approx([1 / 3] * 3, abs=0.06)


def test_intervals_over_seeds_cover_the_truth() -> None:
    rng = np.random.default_rng(9)
    covered = []
    for _ in range(DRAWS):
        right = 0.7 + 0.05 * rng.normal(size=(4, 1))  # the mean of all trainings that could have been
        estimate = bootstrap_mean(rng.random((4, 300)) < right, samples=300, rng=rng)
        covered.append(estimate.low <= 0.7 <= estimate.high)
    assert 0.90 <= np.mean(covered) <= 0.97  # 91 to 93 % with 3 to 8 seeds, measured


def test_more_misses_never_leave_less_doubt_and_rare_ones_are_covered() -> None:
    rng = np.random.default_rng(13)
    found = [bootstrap_mean(np.arange(500) >= misses, samples=4000, rng=rng) for misses in range(20)]
    for fewer, more in pairwise(found):
        assert more.low < fewer.low
        assert more.high <= fewer.high + 1 / 500  # resamples come in steps of a picture
    # the bootstrap of 1 miss in 500 ended at 99.4 %, where that of none ended at 99.3 %
    assert (found[1].low, found[1].high) == pytest.approx((0.9906, 0.9998), abs=2e-4)
    for wrong in (0.002, 0.0065, 0.01, 0.02):
        chance = binom(500, wrong).pmf(range(20))
        held = [each.low <= 1 - wrong <= each.high for each in found]
        assert chance @ held > 0.92  # the bootstrap: 0.86 at 0.0065


def test_what_was_not_judged_on_the_same_prompts_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="different numbers of prompts"):
        compare(np.ones(3), np.ones(4), samples=10, rng=rng)
    with pytest.raises(ValueError, match="no values"):
        resample_means([], samples=10, rng=rng)
