"""The gate: what is known of the sentinels beforehand, as data; the error when a metric says otherwise."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from salon.errors import GateError
from salon.judging.sentinels import COPYCAT, NOISE, REAL, RETRIEVAL, SHUFFLED


@dataclass(frozen=True)
class Rule:
    """One sentinel stands clearly above another: their intervals do not touch."""

    metric: str
    """Where the figure lies in a metrics file, e.g. `test/kid`."""
    better: str
    worse: str
    direction: Literal["higher", "lower"] = "higher"
    """Which figures are good."""

    def broken_by(self, better: Mapping[str, float], worse: Mapping[str, float]) -> bool:
        """Whether the two figures, each with `low` and `high`, stand otherwise."""
        if self.direction == "higher":
            return not better["low"] > worse["high"]
        return not better["high"] < worse["low"]


@dataclass(frozen=True)
class Bound:
    """One sentinel's figure lies within known limits, as far as its interval can tell."""

    metric: str
    sentinel: str
    at_least: float = float("-inf")
    at_most: float = float("inf")

    def broken_by(self, figure: Mapping[str, float]) -> bool:
        """Whether the whole interval lies outside, or is no number."""
        return not (figure["high"] >= self.at_least and figure["low"] <= self.at_most)


MANIFOLD = tuple(f"test/{name}" for name in ("precision", "recall", "density", "coverage"))
"""What asks for neighbours among real pictures, and is lost where these are too diverse to have any."""

RULES: tuple[Rule | Bound, ...] = (
    *(
        Rule("test/alignment/all", better, worse)
        for better in (REAL, COPYCAT, RETRIEVAL)
        for worse in (SHUFFLED, NOISE)
    ),
    Rule("novel/*/alignment/all", REAL, RETRIEVAL),
    *(Rule("test/r_precision", better, worse) for better in (REAL, COPYCAT) for worse in (SHUFFLED, NOISE)),
    *(Rule("test/kid", better, NOISE, "lower") for better in (REAL, COPYCAT, RETRIEVAL, SHUFFLED)),
    *(Rule(metric, REAL, NOISE) for metric in MANIFOLD),
    Rule("memorisation/copy_rate", REAL, COPYCAT, "lower"),
    Rule("memorisation/copy_rate", REAL, RETRIEVAL, "lower"),
    Rule("memorisation/copy_rate", NOISE, COPYCAT, "lower"),
    Bound("memorisation/copy_rate", REAL, at_most=0.05),
    Bound("memorisation/copy_rate", COPYCAT, at_least=0.95),
)
"""What holds for any captioned pictures."""

ATTRIBUTE_RULES: tuple[Rule | Bound, ...] = (
    *RULES,
    Rule("test/diversity", REAL, RETRIEVAL),  # real pictures of what a caption asks for are many
    Bound("test/alignment/all", REAL, at_least=0.95),
)
"""What holds, beside that, where the rows carry attributes."""


@dataclass(frozen=True)
class Findings:
    """What the sentinels say of the metrics, where the gate stays open."""

    kept: list[str]
    """A sentence on every rule that held."""
    withheld: dict[str, str]
    """Metric that says nothing of a method, for it misplaces a sentinel -> the rules that it breaks."""


def check_rules(
    metrics: Mapping[str, Mapping[str, Any]],
    rules: Sequence[Rule | Bound] = ATTRIBUTE_RULES,
    *,
    may_withhold: Collection[str] = (),
) -> Findings:
    """Hold every rule against the sentinels' figures; a rule whose metric nobody measured is left out.

    Args:
        metrics: Each sentinel -> what its metrics file holds.
        may_withhold: Metrics that need not be right: broken, they alone are put aside.

    Raises:
        GateError: another rule is broken; the message names the metric and the sentinels of every one.
    """
    kept: list[str] = []
    broken: list[str] = []
    withheld: dict[str, list[str]] = {}
    for rule in rules:
        for metric in _expand(rule.metric, metrics):
            sentence, fails = _apply(rule, metric, metrics)
            if fails and metric in may_withhold:
                withheld.setdefault(metric, []).append(sentence)
            else:
                (broken if fails else kept).append(sentence)
    if broken:
        raise GateError(
            f"{len(broken)} of {len(broken) + len(kept)} rules for the sentinels are broken, so that what "
            f"these metrics say of a method means nothing. Mend the metric first: {'; '.join(broken)}"
        )
    return Findings(kept, {metric: "; ".join(sentences) for metric, sentences in withheld.items()})


def _apply(rule: Rule | Bound, metric: str, metrics: Mapping[str, Mapping[str, Any]]) -> tuple[str, bool]:
    if isinstance(rule, Bound):
        figure = _find(metrics[rule.sentinel], metric)
        limits = [
            f"{word} {limit:g}"
            for word, limit in (("at least", rule.at_least), ("at most", rule.at_most))
            if np.isfinite(limit)
        ]
        sentence = f"{metric}: {rule.sentinel} is {_show(figure)}, must be {' and '.join(limits)}"
        return sentence, figure is None or rule.broken_by(figure)
    better, worse = _find(metrics[rule.better], metric), _find(metrics[rule.worse], metric)
    order = "above" if rule.direction == "higher" else "below"
    sentence = f"{metric}: {rule.better} {_show(better)} must be {order} {rule.worse} {_show(worse)}"
    return sentence, better is None or worse is None or rule.broken_by(better, worse)


def _show(figure: Mapping[str, float] | None) -> str:
    if figure is None:
        return "not measured"
    return f"{figure['value']:.4g} ({figure['low']:.4g} to {figure['high']:.4g})"


def _expand(path: str, metrics: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The paths that `path` stands for and that at least one sentinel was measured in."""
    found: dict[str, None] = {}
    for measured in metrics.values():
        found |= dict.fromkeys(_matches(path.split("/"), measured))
    return list(found)


def _matches(parts: Sequence[str], node: Any) -> list[str]:
    if not parts:
        return [""]
    if not isinstance(node, Mapping):
        return []
    names = list(node) if parts[0] == "*" else [parts[0]] if parts[0] in node else []
    tails = [(name, tail) for name in names for tail in _matches(parts[1:], node[name])]
    return [f"{name}/{tail}" if tail else name for name, tail in tails]


def _find(node: Any, path: str) -> Mapping[str, float] | None:
    for name in path.split("/"):
        if not isinstance(node, Mapping) or name not in node:
            return None
        node = node[name]
    return node
