"""Champion against challenger, against answers known by hand or by enumeration."""

import re
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from salon.params import RegisterParams
from salon.registry.promotion import PromotionEvidence, decide

RULE = RegisterParams(
    max_latency_ms=100, max_copy_rate=0.05, max_parameters=1000, min_probability_better=0.95
)


def evidence(right: list[int], **changes: object) -> PromotionEvidence:
    """A model that keeps every guardrail, and whose verdicts on p000, p001, ... are `right`."""
    sound = PromotionEvidence(
        scores={f"p{i:03d}": score for i, score in enumerate(right)},
        latency_ms_p50=50,
        copy_rate=0.01,
        parameters=1000,
        data_valid=True,
        sentinels_passed=True,
        evaluation_set="a",
    )
    return replace(sound, **changes)


def probability(challenger: list[int], champion: list[int]) -> float:
    """What the decision says of how likely the challenger is better."""
    reason = decide(evidence(challenger), evidence(champion), RULE).reason
    return float(re.search(r"better with probability ([\d.]+)", reason)[1])


def test_first_version_becomes_champion():
    decision = decide(evidence([1, 0, 1, 1]), None, RULE)
    assert decision.promote
    assert decision.reason == "first champion: everything right in 75.0% of val"


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ({"data_valid": False}, "the data did not pass validation"),
        ({"sentinels_passed": False}, "a metric puts a sentinel where it cannot stand"),
        ({"latency_ms_p50": 101.4}, "latency p50 101 ms per picture is above register.max_latency_ms = 100"),
        ({"latency_ms_p50": float("nan")}, "latency p50 nan ms"),
        ({"copy_rate": 0.051}, "5.1% of the pictures are copies"),
        ({"copy_rate": float("nan")}, "nan% of the pictures are copies"),
        ({"parameters": 1001}, "1,001 parameters are more than register.max_parameters = 1,000"),
    ],
)
@pytest.mark.parametrize("champion", [None, evidence([0] * 50)])
def test_guardrails_hold_for_everyone(broken, sentence, champion):
    decision = decide(evidence([1] * 50, **broken), champion, RULE)
    assert not decision.promote
    assert decision.reason.startswith(sentence)
    assert ";" not in decision.reason, "nothing else is wrong"


def test_the_limits_themselves_are_allowed_and_every_broken_guardrail_is_named():
    assert decide(evidence([1], latency_ms_p50=100, copy_rate=0.05, parameters=1000), None, RULE).promote
    several = decide(evidence([1], data_valid=False, copy_rate=0.5, parameters=2000), None, RULE)
    assert several.reason.count(";") == 2


def test_a_champion_that_would_not_pass_today_is_still_compared_with():
    slow = evidence([1] * 50, latency_ms_p50=1000)
    assert not decide(evidence([0] * 50), slow, RULE).promote


def test_nothing_judged_is_no_champion():
    decision = decide(evidence([]), None, RULE)
    assert (decision.promote, decision.reason) == (False, "no validation prompt was judged")


def test_clearly_better_is_promoted():
    decision = decide(evidence([1] * 90 + [0] * 10), evidence([1] * 50 + [0] * 50), RULE)
    assert decision.promote
    assert "90.0% of val against the champion's 50.0%" in decision.reason


def test_tie_worse_and_slightly_better_stay_challengers():
    champion = evidence([1] * 50 + [0] * 50)
    assert not decide(champion, champion, RULE).promote
    # as often right, on other prompts
    assert not decide(evidence([0] * 50 + [1] * 50), champion, RULE).promote
    assert not decide(evidence([1] * 30 + [0] * 70), champion, RULE).promote
    slightly = decide(evidence([1] * 51 + [0] * 49), champion, RULE)
    assert not slightly.promote
    assert slightly.reason.endswith("0.95 is needed")


def test_no_rule_promotes_what_is_no_better():
    anything_goes = RULE.model_copy(update={"min_probability_better": 0.0})
    champion = evidence([1] * 5 + [0] * 5)
    assert not decide(champion, champion, anything_goes).promote


@pytest.mark.parametrize(
    "elsewhere",
    [{"evaluation_set": "b"}, {"scores": {f"q{i}": 1 for i in range(100)}}, {"scores": {"p000": 1}}],
)
def test_other_evaluation_sets_are_not_compared_until_the_champion_is_judged_again(elsewhere):
    better, champion = evidence([1] * 100), evidence([0] * 100)
    decision = decide(replace(better, **elsewhere), champion, RULE)
    assert not decision.promote
    assert "not comparable" in decision.reason
    assert "judged again" in decision.reason
    judged_again = replace(champion, **{"scores": dict.fromkeys(elsewhere.get("scores", champion.scores), 0)})
    judged_again = replace(judged_again, evaluation_set=elsewhere.get("evaluation_set", "a"))
    assert "not comparable" not in decide(replace(better, **elsewhere), judged_again, RULE).reason


@pytest.mark.parametrize(
    ("challenger", "champion", "expected"),
    [
        # the sign of each win could as well be the other: three of three come in one of eight
        ([1, 1, 1], [0, 0, 0], 1 - 1 / 16),
        ([0, 0, 0], [1, 1, 1], 1 / 16),
        ([1, 0, 1], [1, 0, 1], 0.5),
        ([1, 0, 0, 0], [0, 0, 0, 0], 0.75),
        ([1] + [0] * 99, [0] * 100, 0.75),
    ],
)
def test_probability_known_by_hand(challenger, champion, expected):
    assert probability(challenger, champion) == pytest.approx(expected, abs=0.0006)


def test_probability_equals_enumeration_of_all_signs():
    challenger, champion = [1, 1, 1, 0, 0, 1], [0, 0, 1, 1, 0, 1]
    differences = np.array(challenger) - np.array(champion)
    sums = np.array([(differences * signs).sum() for signs in product((1, -1), repeat=6)])
    exact = (sums < differences.sum()).mean() + (sums == differences.sum()).mean() / 2
    assert probability(challenger, champion) == pytest.approx(exact, abs=0.015)


def test_probability_is_paired_repeatable_and_blind_to_order():
    challenger, champion = [1] * 60 + [0] * 40, [1] * 55 + [0] * 45
    paired = probability(challenger, champion)
    # the same means without the pairing are far less certain
    assert paired > 0.98 > probability(challenger, champion[::-1])
    assert paired == probability(challenger, champion)
    backwards = replace(evidence([]), scores=dict(reversed(evidence(challenger).scores.items())))
    assert decide(backwards, evidence(champion), RULE) == decide(
        evidence(challenger), evidence(champion), RULE
    )


def test_three_won_and_none_lost_may_be_chance():
    assert not decide(evidence([1] * 500), evidence([1] * 497 + [0] * 3), RULE).promote
    assert decide(evidence([1] * 500), evidence([1] * 495 + [0] * 5), RULE).promote
