"""Champion against challenger: a pure decision.

Guardrails first, each of which every version must keep, the first of all included; then a paired bootstrap
over validation prompts (`salon.judging.statistics.compare`). Both models were judged on the same prompts by
the same judge, so that hard prompts cancel out; where they were not, nothing is compared.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from salon.judging.comparison import compare
from salon.params import RegisterParams

BOOTSTRAP_SAMPLES = 10_000
BOOTSTRAP_SEED = 1993


@dataclass(frozen=True)
class PromotionEvidence:
    """What is known of one model when it stands for promotion."""

    scores: Mapping[str, float]
    """Selection metric per validation prompt: 1 where everything is right, else 0."""
    latency_ms_p50: float
    """Per picture at batch 1."""
    copy_rate: float
    """Share of pictures that are copies of training pictures."""
    parameters: int
    """Of generator and codec, without the text tower."""
    data_valid: bool
    """Whether its training data passed validation."""
    sentinels_passed: bool
    """Whether every metric put the sentinels where they belong when it was judged."""
    evaluation_set: str
    """Digest of the judge and of the prompts; scores of two sets cannot be compared."""

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.scores.values())))


@dataclass(frozen=True)
class Decision:
    """Whether the alias `champion` moves, and why."""

    promote: bool
    reason: str


def decide(
    challenger: PromotionEvidence, champion: PromotionEvidence | None, rule: RegisterParams
) -> Decision:
    """Promote only what keeps the guardrails and, where there is a champion, is better with confidence."""
    if broken := broken_guardrails(challenger, rule):
        return Decision(False, "; ".join(broken))
    if champion is None:
        return Decision(True, f"first champion: everything right in {challenger.mean:.1%} of val")
    if not comparable(challenger, champion):
        return Decision(
            False,
            "not comparable: the champion was judged on other prompts or by another judge, and must be "
            "judged again on these",
        )
    prompts = sorted(challenger.scores)
    ours, theirs = (np.array([each.scores[name] for name in prompts]) for each in (challenger, champion))
    found = compare(ours, theirs)
    comparison = (
        f"everything right in {challenger.mean:.1%} of val against the champion's {champion.mean:.1%}, "
        f"better with probability {found.probability_better:.3f}"
    )
    if found.probability_better >= rule.min_probability_better and found.difference.value > 0:
        return Decision(True, comparison)
    return Decision(False, f"{comparison}; {rule.min_probability_better:g} is needed")


def comparable(one: PromotionEvidence, other: PromotionEvidence) -> bool:
    """Whether the same judge judged both on the same prompts."""
    return one.evaluation_set == other.evaluation_set and one.scores.keys() == other.scores.keys()


def broken_guardrails(evidence: PromotionEvidence, rule: RegisterParams) -> list[str]:
    """Every guardrail that does not hold, as a sentence."""
    # written so that what is not a number does not pass
    guardrails = {
        "the data did not pass validation": evidence.data_valid,
        "a metric puts a sentinel where it cannot stand (reports/sentinels.json)": evidence.sentinels_passed,
        "no validation prompt was judged": bool(evidence.scores),
        f"latency p50 {evidence.latency_ms_p50:.0f} ms per picture is above register.max_latency_ms = "
        f"{rule.max_latency_ms:g}": evidence.latency_ms_p50 <= rule.max_latency_ms,
        f"{evidence.copy_rate:.1%} of the pictures are copies of training pictures, more than "
        f"register.max_copy_rate = {rule.max_copy_rate:.1%}": evidence.copy_rate <= rule.max_copy_rate,
        f"{evidence.parameters:,} parameters are more than register.max_parameters = "
        f"{rule.max_parameters:,}": evidence.parameters <= rule.max_parameters,
    }
    return [sentence for sentence, holds in guardrails.items() if not holds]
