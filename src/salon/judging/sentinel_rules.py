"""The gate: what is known of the sentinels beforehand, as data; the error when a metric says otherwise."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import isfinite
from typing import Literal

from salon.errors import GateError
from salon.judging.record import Gate
from salon.judging.statistics import Estimate

REAL, FAINT, JPEG, BLEND, GAPS = "real", "faint", "jpeg", "blend", "gaps"
COPYCAT, RETRIEVAL, SHUFFLED, NOISE = "copycat", "retrieval", "shuffled", "noise"
THROUGH_CODEC, MEMORISER = "codec-", "memoriser-"  # and the codec's name
SENTINELS = {
    REAL: "held-out real pictures of the very prompts, the ceiling",
    FAINT: "real pictures with noise that nobody sees",
    JPEG: "real pictures as JPEG of quality 95",
    BLEND: "half of one real picture and half of another",
    GAPS: "real pictures, a quarter of the concepts missing",
    COPYCAT: "a training picture that shows what is asked",
    RETRIEVAL: "the training picture with the nearest caption",
    SHUFFLED: "real pictures under each other's captions",
    NOISE: "each pixel drawn alone",
}
"""Sources of images whose place is known; `salon.judging.sentinels` makes them."""


@dataclass(frozen=True)
class Rule:
    """One sentinel stands clearly above another: their intervals do not touch."""

    metric: str
    """Where the figure lies in a metrics file, e.g. `test/kid`; `*` stands for any kind of novelty."""
    better: str
    worse: str
    direction: Literal["higher", "lower"] = "higher"
    """Which figures are good."""
    needs_attributes: bool = False
    """Whether it holds only where the rows carry attributes."""

    def apply(self, metric: str, figures: Mapping[str, Mapping[str, Estimate]]) -> tuple[str, bool]:
        """What must hold of `metric`, in a sentence, and whether the figures of the sentinels break it."""
        better, worse = figures[self.better].get(metric), figures[self.worse].get(metric)
        order = "above" if self.direction == "higher" else "below"
        sentence = f"{metric}: {self.better} {_show(better)} must be {order} {self.worse} {_show(worse)}"
        if better is None or worse is None:
            return sentence, True
        clear = better.low > worse.high if self.direction == "higher" else better.high < worse.low
        return sentence, not clear


@dataclass(frozen=True)
class Bound:
    """One sentinel's figure lies within known limits, as far as its interval can tell."""

    metric: str
    sentinel: str
    at_least: float = float("-inf")
    at_most: float = float("inf")
    needs_attributes: bool = False

    def apply(self, metric: str, figures: Mapping[str, Mapping[str, Estimate]]) -> tuple[str, bool]:
        """The same; broken where the whole interval lies outside, or is no number."""
        figure = figures[self.sentinel].get(metric)
        limits = {"at least": self.at_least, "at most": self.at_most}
        told = " and ".join(f"{word} {limit:g}" for word, limit in limits.items() if isfinite(limit))
        within = figure and figure.high >= self.at_least and figure.low <= self.at_most
        return f"{metric}: {self.sentinel} is {_show(figure)}, must be {told}", not within


@dataclass(frozen=True)
class Near:
    """One sentinel's figure lies near another's."""

    metric: str
    sentinel: str
    other: str
    within: float
    """Largest difference of the two figures."""
    needs_attributes: bool = False

    def apply(self, metric: str, figures: Mapping[str, Mapping[str, Estimate]]) -> tuple[str, bool]:
        """The same."""
        one, other = figures[self.sentinel].get(metric), figures[self.other].get(metric)
        sentence = (
            f"{metric}: {self.sentinel} {_show(one)} must lie within {self.within:g} of "
            f"{self.other} {_show(other)}"
        )
        # written so that what is no number does not pass
        return sentence, one is None or other is None or not abs(one.value - other.value) <= self.within


AnyRule = Rule | Bound | Near


def check_rules(
    measured: Mapping[str, Mapping[tuple[str, ...], Estimate]],
    rules: Sequence[AnyRule],
    *,
    may_withhold: Collection[str] = (),
) -> Gate:
    """Hold every rule against the sentinels' figures; a rule whose metric nobody measured is left out.

    Args:
        measured: Each sentinel -> `Judgement.estimates`.
        may_withhold: Metrics that need not be right: broken, they alone are put aside.

    Raises:
        GateError: another rule is broken; the message names the metric and the sentinels of every one.
    """
    figures = {
        name: {"/".join(keys): value for keys, value in found.items()} for name, found in measured.items()
    }
    known = dict.fromkeys(metric for found in figures.values() for metric in found)
    kept: list[str] = []
    broken: list[str] = []
    withheld: dict[str, list[str]] = {}
    for rule in rules:
        for metric in (metric for metric in known if fnmatchcase(metric, rule.metric)):
            sentence, fails = rule.apply(metric, figures)
            if fails and metric in may_withhold:
                withheld.setdefault(metric, []).append(sentence)
            else:
                (broken if fails else kept).append(sentence)
    if broken:
        raise GateError(
            f"{len(broken)} of {len(broken) + len(kept)} rules for the sentinels are broken, so that what "
            f"these metrics say of a method means nothing. Mend the metric first: {'; '.join(broken)}"
        )
    return Gate(True, rules=kept, withheld={metric: "; ".join(said) for metric, said in withheld.items()})


def _show(figure: Estimate | None) -> str:
    if figure is None:
        return "not measured"
    return f"{figure.value:.4g} ({figure.low:.4g} to {figure.high:.4g})"
