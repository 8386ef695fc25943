"""Champion against challenger, against answers known by hand or by enumeration."""

from itertools import product

import numpy as np
import pytest

from salon.params import RegisterParams
from salon.tracking.promotion import Evidence, decide, probability_better

RULE = RegisterParams(max_latency_ms=100, min_probability_better=0.95)


def evidence(right: list[int], *, latency: float = 50, valid: bool = True, judged_on: str = "a") -> Evidence:
    return Evidence({f"p{i:03d}": score for i, score in enumerate(right)}, latency, valid, judged_on)


def scores(right: list[int]) -> dict[str, float]:
    return {f"p{i:03d}": float(score) for i, score in enumerate(right)}


def test_first_version_becomes_champion():
    decision = decide(evidence([1, 0, 1, 1]), None, RULE)
    assert decision.promote
    assert "75.0%" in decision.reason


@pytest.mark.parametrize(
    ("broken", "word"),
    [
        ({"valid": False}, "validation"),
        ({"latency": 100.1}, "latency"),
        ({"latency": float("nan")}, "latency"),
    ],
)
@pytest.mark.parametrize("champion", [None, evidence([0] * 50)])
def test_guardrails_hold_for_everyone(broken, word, champion):
    decision = decide(evidence([1] * 50, **broken), champion, RULE)
    assert not decision.promote
    assert word in decision.reason


def test_nothing_judged_is_no_champion():
    assert not decide(evidence([]), None, RULE).promote


def test_clearly_better_is_promoted():
    decision = decide(evidence([1] * 90 + [0] * 10), evidence([1] * 50 + [0] * 50), RULE)
    assert decision.promote
    assert "90.0%" in decision.reason
    assert "50.0%" in decision.reason


def test_tie_worse_and_slightly_better_stay_challengers():
    champion = evidence([1] * 50 + [0] * 50)
    assert not decide(champion, champion, RULE).promote
    # as often right, on other prompts
    assert not decide(evidence([0] * 50 + [1] * 50), champion, RULE).promote
    assert not decide(evidence([1] * 30 + [0] * 70), champion, RULE).promote
    slightly = decide(evidence([1] * 51 + [0] * 49), champion, RULE)
    assert not slightly.promote
    assert "0.95" in slightly.reason


def test_other_evaluation_sets_are_not_compared():
    better, champion = [1] * 100, [0] * 100
    assert not decide(evidence(better, judged_on="b"), evidence(champion), RULE).promote
    other_prompts = Evidence({f"q{i}": 1 for i in range(100)}, 50, True, "a")
    decision = decide(other_prompts, evidence(champion), RULE)
    assert not decision.promote
    assert "not comparable" in decision.reason


@pytest.mark.parametrize(
    ("challenger", "champion", "probability"),
    [
        ([1, 1, 1], [0, 0, 0], 1.0),
        ([0, 0, 0], [1, 1, 1], 0.0),
        ([1, 0, 1], [1, 0, 1], 0.0),
        # one win in n prompts is in a resample unless every draw misses it: 1 - (1 - 1/n)^n
        ([1, 0, 0, 0], [0, 0, 0, 0], 1 - 0.75**4),
        ([1] + [0] * 99, [0] * 100, 1 - 0.99**100),
    ],
)
def test_probability_known_by_hand(challenger, champion, probability):
    found = probability_better(scores(challenger), scores(champion), samples=40_000)
    assert found == pytest.approx(probability, abs=0.01)


def test_probability_equals_enumeration_of_all_resamples():
    challenger, champion = [1, 1, 1, 0, 0, 1], [0, 0, 1, 1, 0, 1]
    differences = np.array(challenger) - np.array(champion)
    exact = np.mean([differences[list(drawn)].sum() > 0 for drawn in product(range(6), repeat=6)])
    found = probability_better(scores(challenger), scores(champion), samples=40_000)
    assert found == pytest.approx(exact, abs=0.01)


def test_probability_is_paired_seeded_and_blind_to_order():
    challenger, champion = [1] * 60 + [0] * 40, [1] * 55 + [0] * 45
    paired = probability_better(scores(challenger), scores(champion))
    # the same means without the pairing are far less certain
    assert paired > 0.98 > probability_better(scores(challenger), scores(champion[::-1]))
    assert paired == probability_better(scores(challenger), scores(champion))
    backwards = dict(reversed(scores(challenger).items()))
    assert paired == probability_better(backwards, scores(champion))


def test_probability_refuses_other_prompts():
    with pytest.raises(ValueError, match="same prompts"):
        probability_better(scores([1, 1]), scores([1]))
