"""Methods against each other, where it is known whether they differ."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom, t

from salon.judging.comparison import (
    compare,
    compare_all,
    compare_resampled,
    holm,
    prompts_to_tell,
    sign_flip_p,
)

TABLES = 1000


def draw_difficulties(mean: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """How likely each prompt, or all of a cluster, is drawn right: some are easy for everybody, some hard."""
    return rng.beta(3 * mean, 3 * (1 - mean), size=count)


def share_told_apart(
    draw: Callable[[np.random.Generator], list[np.ndarray]], clusters: np.ndarray | None = None
) -> float:
    """In how many of 1,000 tables of equal methods some two are told apart."""
    rng = np.random.default_rng(1)
    tables = (compare_all(draw(rng), clusters=clusters) for _ in range(TABLES))
    return float(np.mean([any(pair.distinguishable for pair in found.values()) for found in tables]))


@pytest.mark.parametrize("accuracy", [0.5, 0.9, 0.98, 0.99, 0.995, 0.999])
@pytest.mark.parametrize("clusters", [None, np.arange(500) % 70], ids=["prompts", "drawings"])
def test_five_equal_methods_are_rarely_told_apart(accuracy: float, clusters: np.ndarray | None) -> None:
    """At 99 % and above few differ at all, and p, in steps of 2^-discordant, falls short of 5 %."""

    def draw(rng: np.random.Generator) -> list[np.ndarray]:
        right = draw_difficulties(accuracy, 500 if clusters is None else 70, rng)
        return list(rng.random((5, 500)) < (right if clusters is None else right[clusters]))

    found = share_told_apart(draw, clusters)
    assert found <= 0.07
    if accuracy <= 0.9:
        assert found >= 0.03


@pytest.mark.parametrize("methods", [2, 5])
def test_equal_methods_of_continuous_scores_are_told_apart_in_about_5_of_100_tables(methods: int) -> None:
    found = share_told_apart(lambda rng: list(rng.normal(size=60) + rng.exponential(size=(methods, 60))))
    assert 0.03 <= found <= 0.07


def test_equal_methods_of_a_distance_between_distributions_are_told_apart_in_about_5_of_100_tables() -> None:
    """As KID: the squared distance of the mean picture from the real one, without a picture's own pair."""
    rng = np.random.default_rng(2)
    n, found = 100, 0
    for _ in range(TABLES):
        pictures = 0.5 + rng.normal(size=(5, n, 3))
        counts = np.vstack([np.ones(n), rng.multinomial(n, np.full(n, 1 / n), size=200)])
        sums, squares = counts @ pictures, counts**2 @ (pictures**2).sum(axis=-1, keepdims=True)
        pairs = n**2 - (counts**2).sum(axis=1)
        distance = ((sums**2).sum(axis=-1) - squares[..., 0]).T / pairs[:, None]  # (1 + samples, methods)
        compared = compare_resampled(distance[0], distance[1:], n=n)
        found += any(pair.distinguishable for pair in compared.values())
    assert 0.03 <= found / TABLES <= 0.07


@pytest.mark.parametrize("seed_spread", [0.0, 0.03])
def test_trainings_that_differ_by_their_seeds_alone_are_rarely_told_apart(seed_spread: float) -> None:
    """Three trainings a method. Prompts alone would call them different far more often."""
    rng = np.random.default_rng(3)
    of_trainings, of_prompts = [], []
    for _ in range(TABLES):
        right = draw_difficulties(0.8, 400, rng)
        luck = seed_spread * rng.normal(size=(2, 3, 1))
        a, b = rng.random((2, 3, 400)) < right + luck
        of_trainings.append(compare(a, b).distinguishable)
        of_prompts.append(compare(a[0], b[0]).distinguishable)
    assert 0.005 <= np.mean(of_trainings) <= 0.07
    if seed_spread:
        assert np.mean(of_prompts) > 0.15


def test_prompts_of_few_drawings_tell_equal_methods_apart_if_taken_for_their_own() -> None:
    rng = np.random.default_rng(4)
    labels = np.arange(500) % 10
    of_clusters, of_prompts = [], []
    for _ in range(300):
        a, b = rng.random((2, 500)) < rng.beta(1, 1, size=(2, 10))[:, labels]
        of_clusters.append(compare(a, b, clusters=labels).distinguishable)
        of_prompts.append(compare(a, b).distinguishable)
    assert np.mean(of_clusters) <= 0.08
    assert np.mean(of_prompts) > 0.5


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [
        (3, 0, 0.125),
        (4, 0, 0.0625),
        (5, 0, 0.03125),
        (2, 2, 1.0),
        (0, 0, 1.0),
        (8, 1, 2 * (1.0 / 512 + 4.5 / 512)),
    ],
)
def test_exact_mcnemar_by_hand(wins: int, losses: int, p: float) -> None:
    assert sign_flip_p(np.array([1.0] * wins + [-1.0] * losses)) == pytest.approx(p)
    n = wins + losses
    if wins > losses:
        assert p == pytest.approx(2 * (binom(n, 0.5).cdf(losses) - binom(n, 0.5).pmf(losses) / 2))
    first, second = np.zeros((2, 500))
    first[:wins], second[wins : wins + losses] = 1, 1
    found = compare(first, second)
    assert found.p == pytest.approx(p)
    assert found.distinguishable == (p < 0.05) == (not found.difference.low <= 0 <= found.difference.high)
    assert found.probability_better == pytest.approx(1 - p / 2)


def test_five_prompts_of_one_drawing_are_one_witness() -> None:
    first, second = np.zeros((2, 500))
    first[:5] = 1
    assert compare(first, second).distinguishable
    assert compare(first, second, clusters=np.arange(500) // 5).p == 0.5  # as one prompt


def test_p_of_many_is_students() -> None:
    a, b = np.random.default_rng(5).random((2, 200)) < 0.8
    apart = a.astype(float) - b
    expected = 2 * t.sf(abs(apart.mean()) / (apart.std(ddof=1) / np.sqrt(200)), 199)
    assert compare(a, b).p == pytest.approx(expected)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.2, 0.9]) == pytest.approx([0.4, 0.9])
    assert holm([]) == []


def test_two_methods_alone_and_one_among_many_that_is_far_behind() -> None:
    rng = np.random.default_rng(12)
    a, b = rng.random((2, 300)) < 0.8
    noise = np.zeros(300, dtype=bool)
    pair = compare_all([a, b])[0, 1]
    assert pair == compare(a, b)
    found = compare_all([a, b, b, noise])
    assert list(found) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert found[0, 3].distinguishable
    assert found[1, 3].distinguishable
    assert (found[1, 2].difference.low, found[1, 2].difference.high, found[1, 2].more_prompts) == (0, 0, None)
    assert (
        found[0, 1].difference.high - found[0, 1].difference.low > pair.difference.high - pair.difference.low
    )
    assert found[0, 1].prompts_needed > pair.prompts_needed


def test_an_interval_and_its_verdict_say_the_same() -> None:
    rng = np.random.default_rng(13)
    for _ in range(200):
        rates = rng.uniform(0.95, 1, size=(5, 1))
        for pair in compare_all(list(rng.random((5, 300)) < rates)).values():
            inside = pair.difference.low < 0 < pair.difference.high or pair.difference.value == 0
            assert pair.distinguishable != inside


def test_a_real_difference_is_found_with_the_power_that_was_promised() -> None:
    rng = np.random.default_rng(4)
    difference, spread = 0.05, 0.4
    prompts = prompts_to_tell(difference, spread=spread)
    assert prompts == 503  # ((1.96 + 0.8416) * 0.4 / 0.05) ** 2
    found = []
    for _ in range(TABLES):
        lead = rng.choice([-1, 0, 1], size=prompts, p=[0.0562, 0.8376, 0.1062])  # mean 0.05, std 0.4
        comparison = compare(lead > 0, lead < 0)
        found.append(comparison.distinguishable and comparison.difference.value > 0)
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)


def test_what_cannot_be_told_apart_says_how_many_more_prompts_would() -> None:
    a = np.array([1] * 55 + [0] * 45)
    b = np.array([1] * 50 + [0] * 45 + [1] * 5)  # five prompts each that the other gets wrong, and a tie
    tie = compare(a, b)
    assert (tie.difference.value, tie.distinguishable, tie.more_prompts) == (0, False, None)
    assert tie.probability_better == 0.5

    a[60] = 1
    close = compare(a, b)
    assert not close.distinguishable
    needed = prompts_to_tell(0.01, spread=float((a - b).std(ddof=1)))
    assert close.more_prompts == needed - 100 > 0


def test_pairing_finds_what_unpaired_prompts_hide() -> None:
    rng = np.random.default_rng(5)
    hard = rng.random(300) < 0.5
    better = hard | (np.arange(300) % 25 == 0)
    assert compare(better, hard).distinguishable
    assert not compare(better, rng.permutation(hard)).distinguishable


def test_the_same_pictures_twice_are_the_same() -> None:
    values = np.random.default_rng(6).random(200) < 0.7
    same = compare(values, values)
    assert (same.difference.low, same.difference.high, same.probability_better) == (0, 0, 0.5)
    assert not same.distinguishable


def test_what_was_not_judged_on_the_same_prompts_is_refused() -> None:
    with pytest.raises(ValueError, match="different numbers of prompts"):
        compare(np.ones(3), np.ones(4))
