"""Champion against challenger: a pure decision.

Guardrails first, each of which every version must keep, the first of all included. Then a contest
(`salon.judging.contest`), which asks a question about these weights: both draw the same prompts, and the
challenger must be no worse at captions, nearer to real pictures and no less varied. All three must hold at
once, so that none needs correcting for the others (Berger 1982). Without the second nothing is gained: its
alpha is spent over all who challenge one champion, 6/(pi k)^2 of it on the k-th. These sum to one, so that
challengers that are no better replace a champion with probability alpha at most, however many come.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from salon.judging.contest import Contest, Finding
from salon.params import RegisterParams


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
    """Digest of the judge and of the rows; a contest before another judge is another contest."""

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.scores.values())))


@dataclass(frozen=True)
class Bout:
    """A contest, and how many this champion has stood."""

    contest: Contest
    attempt: int
    """1 where nobody challenged this champion before."""
    champion: str
    """Its version."""


@dataclass(frozen=True)
class Decision:
    """Whether the alias `champion` moves, and why."""

    promote: bool
    reason: str


def decide(challenger: PromotionEvidence, bout: Bout | None, rule: RegisterParams) -> Decision:
    """Promote only what keeps the guardrails and, where there is a champion, has won against it."""
    if broken := broken_guardrails(challenger, rule):
        return Decision(False, "; ".join(broken))
    if bout is None:
        return Decision(True, f"first champion: everything right in {challenger.mean:.1%} of val")
    contest, alpha = bout.contest, alpha_of_attempt(bout.attempt, rule.alpha)
    vary = f"two pictures of a prompt vary {{:.1%}} as much as {contest.varied_against}, against {{:.1%}}"
    right = "everything right in {:.1%} of pictures against the champion's {:.1%}"
    found = [
        _likeness(contest.likeness, alpha),
        _no_worse(right, contest.alignment, rule.alpha, rule.alignment_margin),
        _no_worse(vary, contest.diversity, rule.alpha, rule.diversity_margin),
    ]
    conditions = f"attempt {bout.attempt} on version {bout.champion}, by {contest.prompts}"
    reason = "; ".join([*(sentence for _, sentence in found), conditions])
    return Decision(all(holds for holds, _ in found), reason)


def alpha_of_attempt(attempt: int, alpha: float) -> float:
    """The part of alpha that goes to the attempt with this number; over all numbers it sums to alpha."""
    return alpha * 6 / (math.pi * attempt) ** 2


def _likeness(found: Mapping[str, Finding], alpha: float) -> tuple[bool, str]:
    """Nearer to real pictures in the eyes of every network; told of the one that is least sure."""
    least = max(found.values(), key=lambda finding: finding.p())
    holds = least.p() < alpha
    lost = f"likeness lost {least.challenger:.1%} against the champion's {least.champion:.1%}"
    said = "less" if holds else "not shown to be less"
    return holds, f"{lost}, {said} (p = {least.p():.2g}, below {alpha:.2g} is needed)"


def _no_worse(words: str, finding: Finding, alpha: float, margin: float) -> tuple[bool, str]:
    """Whether a loss beyond the margin is ruled out."""
    holds, worst = finding.p(-margin) < alpha, max(0.0, -finding.low(alpha))
    said = f"{100 * worst:.1f} points less at worst" if holds else f"perhaps {100 * worst:.1f} points less"
    figures = words.format(finding.challenger, finding.champion)
    return holds, f"{figures}, {said} ({100 * margin:g} allowed)"


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
