"""Intervals against data whose answer is known."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import binom, t

from salon.judging.statistics import Estimate, bootstrap_mean, probability_best, resample_means

SAMPLES = 1000


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


def test_who_leads_on_many_prompts_of_three_drawings_may_not_be_best_on_others() -> None:
    rng = np.random.default_rng(20)
    clusters = np.arange(300) % 3
    ahead = [(clusters > 0).astype(float), np.zeros(300)]  # on two drawings of three
    prompts = probability_best(ahead, samples=SAMPLES, rng=rng)
    assert prompts[0] == 1
    assert probability_best(ahead, samples=SAMPLES, rng=rng, clusters=clusters)[0] < 0.99


def test_intervals_over_seeds_cover_the_truth() -> None:
    rng = np.random.default_rng(9)
    covered = []
    for _ in range(1000):
        right = 0.7 + 0.05 * rng.normal(size=(4, 1))  # the mean of all trainings that could have been
        estimate = bootstrap_mean(rng.random((4, 300)) < right, samples=300, rng=rng)
        covered.append(estimate.low <= 0.7 <= estimate.high)
    assert 0.90 <= np.mean(covered) <= 0.97  # 91 to 93 % with 3 to 8 seeds, measured


def test_more_misses_never_leave_less_doubt_and_rare_ones_are_covered() -> None:
    rng = np.random.default_rng(13)
    found = [bootstrap_mean(np.arange(500) >= misses, samples=10, rng=rng) for misses in range(20)]
    for fewer, more in pairwise(found):
        assert more.low < fewer.low
        assert more.high <= fewer.high
    # Clopper & Pearson: what leaves 2.5 % for at most one miss, and for at least one
    assert binom(500, 1 - found[1].low).cdf(1) == pytest.approx(0.025)
    assert binom(500, 1 - found[1].high).sf(0) == pytest.approx(0.025)
    for wrong in (0.002, 0.0065, 0.01, 0.02):
        chance = binom(500, wrong).pmf(range(20))
        held = [each.low <= 1 - wrong <= each.high for each in found]
        assert chance @ held > 0.949  # the bootstrap: 0.86 at 0.0065


def test_all_right_has_the_room_that_its_clusters_leave() -> None:
    clusters = np.arange(500) % 70
    found = bootstrap_mean(np.ones(500), samples=20_000, rng=np.random.default_rng(0), clusters=clusters)
    assert (found.value, found.high, found.n, found.clusters) == (1, 1, 500, 70)
    assert found.low == pytest.approx(0.025 ** (1 / 70), abs=0.002)  # 94.9 %, as of 70 prompts
    missed = [
        bootstrap_mean(np.arange(500) >= n, samples=20_000, rng=np.random.default_rng(0), clusters=clusters)
        for n in range(0, 60, 10)
    ]
    assert all(more.low < fewer.low for fewer, more in pairwise(missed))


@pytest.mark.parametrize(("clusters", "mean"), [(10, 0.35), (20, 0.9), (70, 0.97)])
def test_shares_are_covered_where_prompts_stand_and_fall_together(clusters: int, mean: float) -> None:
    """Clusters whose shares of right ones lie anywhere; prompts as if each its own: 35 to 60 %."""
    rng = np.random.default_rng(21)
    together, alone = [], []
    for _ in range(400):
        rates = rng.beta(2 * mean, 2 * (1 - mean), size=clusters)
        labels = np.repeat(np.arange(clusters), 1 + rng.poisson(20, size=clusters))
        right = rng.random(len(labels)) < rates[labels]
        for held, given in ((together, labels), (alone, None)):
            each = bootstrap_mean(right, samples=500, rng=rng, clusters=given)
            held.append(each.low <= mean <= each.high)
    assert np.mean(together) >= 0.94
    assert np.mean(alone) < 0.75


@pytest.mark.parametrize("clusters", [5, 20])
def test_means_over_few_clusters_are_covered(clusters: int) -> None:
    rng = np.random.default_rng(22)
    labels = np.arange(200) % clusters
    covered = []
    for _ in range(600):
        values = rng.normal(size=clusters)[labels] + rng.normal(size=200)
        each = bootstrap_mean(values, samples=300, rng=rng, clusters=labels)
        covered.append(each.low <= 0 <= each.high)
    assert 0.93 <= np.mean(covered) <= 0.975  # percentiles alone: 83 % of 5


def test_interval_over_clusters_is_students() -> None:
    values, labels = np.random.default_rng(23).normal(size=240), np.repeat(np.arange(8), 30)
    found = bootstrap_mean(values, samples=40_000, rng=np.random.default_rng(0), clusters=labels)
    means = values.reshape(8, 30).mean(axis=1)
    half_width = t.ppf(0.975, 7) * means.std(ddof=1) / np.sqrt(8)
    assert (found.high - found.low) / 2 == pytest.approx(half_width, rel=0.06)


def test_every_prompt_its_own_cluster_is_no_clusters() -> None:
    values, labels = np.random.default_rng(24).normal(size=50), np.arange(50)
    alone, labelled = (
        resample_means([values], samples=9, rng=np.random.default_rng(0), clusters=given)
        for given in (None, labels)
    )
    assert np.allclose(alone, labelled)


def test_clusters_are_written_where_they_are_known() -> None:
    assert Estimate(0.5, 0.4, 0.6, 10).to_json() == {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}
    known = Estimate(0.5, 0.4, 0.6, 10, clusters=3)
    assert known.to_json()["clusters"] == 3
    assert Estimate(**known.to_json()) == known


def test_what_was_not_judged_on_the_same_prompts_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="different numbers of prompts"):
        resample_means([np.ones(3), np.ones(4)], samples=10, rng=rng)
    with pytest.raises(ValueError, match="no values"):
        resample_means([], samples=10, rng=rng)
