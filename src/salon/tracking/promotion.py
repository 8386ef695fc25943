"""Champion against challenger: a pure decision.

The mean difference of paired 0/1 scores is resampled over prompts (paired bootstrap: Efron & Tibshirani 1993,
ch. 16). Both models were judged on the same prompts, so that hard prompts cancel out.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from salon.params import RegisterParams

BOOTSTRAP_SAMPLES = 10_000
BOOTSTRAP_SEED = 1993


@dataclass(frozen=True)
class Evidence:
    """What is known of one model when it stands for promotion."""

    scores: Mapping[str, float]
    """Selection metric per validation prompt: 1 where all attributes are right, else 0."""
    latency_ms_p50: float
    """Per picture at batch 1."""
    data_valid: bool
    """Whether its training data passed validation."""
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


def decide(challenger: Evidence, champion: Evidence | None, rule: RegisterParams) -> Decision:
    """Promote only what keeps the guardrails and, where there is a champion, is better with confidence."""
    broken = broken_guardrail(challenger, rule)
    if broken:
        return Decision(False, broken)
    if champion is None:
        return Decision(True, f"first champion: all attributes right in {challenger.mean:.1%} of val")
    if challenger.evaluation_set != champion.evaluation_set or set(challenger.scores) != set(champion.scores):
        return Decision(False, "not comparable: the champion was judged on other prompts or by another judge")
    probability = probability_better(challenger.scores, champion.scores)
    comparison = (
        f"all attributes right in {challenger.mean:.1%} of val against the champion's {champion.mean:.1%}, "
        f"better with probability {probability:.3f}"
    )
    if probability >= rule.min_probability_better and challenger.mean > champion.mean:
        return Decision(True, comparison)
    return Decision(False, f"{comparison}; {rule.min_probability_better:g} is needed")


def broken_guardrail(evidence: Evidence, rule: RegisterParams) -> str | None:
    """The first guardrail that does not hold, as a sentence."""
    if not evidence.data_valid:
        return "the data did not pass validation"
    if not evidence.scores:
        return "no validation prompt was judged"
    # written so that a latency that is not a number does not pass
    if not evidence.latency_ms_p50 <= rule.max_latency_ms:
        return (
            f"latency p50 {evidence.latency_ms_p50:.0f} ms per picture is above "
            f"register.max_latency_ms = {rule.max_latency_ms:g}"
        )
    return None


def probability_better(
    challenger: Mapping[str, float],
    champion: Mapping[str, float],
    *,
    samples: int = BOOTSTRAP_SAMPLES,
    seed: int = BOOTSTRAP_SEED,
) -> float:
    """Share of resamples of the prompts in which the challenger's mean is strictly higher.

    Raises:
        ValueError: the scores are not of the same prompts.
    """
    if set(challenger) != set(champion) or not challenger:
        raise ValueError("both models must be judged on the same prompts, at least one")
    differences = np.array([challenger[prompt] - champion[prompt] for prompt in sorted(challenger)])
    values, counts = np.unique(differences, return_counts=True)
    n = differences.size
    # resampling n prompts with replacement = drawing how often each distinct difference occurs
    draws = np.random.default_rng(seed).multinomial(n, counts / n, size=samples)  # (samples, distinct values)
    means = draws @ values / n
    return float((means > 1e-12).mean())  # 0.1 + 0.2 - 0.3 is a tie, not a win
