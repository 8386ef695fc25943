"""The table of metrics: what each means, who measures it, where the sentinels must stand, how it reads.

A new metric is one row here and one function that measures it. Jury, record, rules for the sentinels,
leakage check, comparison page, model card and MLflow's runs go through this table.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from salon.judging.sentinel_rules import COPYCAT, NOISE, REAL, RETRIEVAL, SHUFFLED, Bound, Rule
from salon.judging.statistics import Estimate

SCORER, RETRIEVER, FEATURES = "scorer", "retrieval", "efficientnet-lite0"
EVERY_SPLIT = ("val", "test", "novel")
FIDELITY, REACH = "do their textures lie where real ones do?", "are the real textures reached?"


@dataclass(frozen=True)
class Metric:
    """One figure with an interval."""

    name: str
    """Its key below the split, as `kid` in `test/kid`."""
    title: str
    """Its name on the page."""
    means: str
    """What it says, on the page; metrics that share a meaning share a sentence."""
    measure: Callable[[Any], Estimate]
    """Of the images of one split, a `salon.judging.jury.JudgedImages`."""
    judge: str | None = FEATURES
    """The network that gives it, which no method may have trained with."""
    better: Literal["higher", "lower", "as real"] = "higher"
    splits: tuple[str, ...] = ("test",)
    """Where it is measured; choices look at `val`, reports at the others."""
    rules: tuple[Rule | Bound, ...] = ()
    """Where the sentinels must stand."""
    may_be_withheld: bool = False
    """Whether it asks for neighbours among real images, and is lost where these are too diverse for any."""
    share: bool = False
    """Whether it reads as a percentage, on a scale to 100; a plain number otherwise."""
    on: Literal["captions", "images", "copies"] = "images"
    """What it judges, which is the part of the page that shows it."""
    detailed: bool = False
    """Whether the record holds more than one figure of it: alignment by language, the copy test's power."""
    card: str = ""
    """What it means, for a model card; empty where the card does not tell it."""

    def measured_on(self, split: str) -> bool:
        return split.partition("/")[0] in self.splits


def _apart(
    metric: str, better: Sequence[str], worse: Sequence[str], direction: Literal["higher", "lower"] = "higher"
) -> tuple[Rule, ...]:
    """Each of the better sentinels stands clearly above each of the worse, or below."""
    return tuple(Rule(metric, good, bad, direction) for good in better for bad in worse)


def _manifold(name: str, means: str, **reads: Any) -> Metric:
    measure, rules = attrgetter(f"fidelity.{name}"), (Rule(f"test/{name}", REAL, NOISE),)
    return Metric(name, name, means, measure, rules=rules, may_be_withheld=True, **reads)


_ROWS = (
    Metric(
        "alignment",
        "all right",
        "share of pictures that show what the caption says",
        lambda seen: seen.figures.all_right,
        judge=SCORER,
        splits=EVERY_SPLIT,
        rules=(
            *_apart("test/alignment/all", (REAL, COPYCAT, RETRIEVAL), (SHUFFLED, NOISE)),
            Rule("novel/*/alignment/all", REAL, RETRIEVAL),
            Bound("test/alignment/all", REAL, at_least=0.95, needs_attributes=True),
        ),
        share=True,
        on="captions",
        detailed=True,
    ),
    Metric(
        "r_precision",
        "R-precision",
        "share of pictures that find their own caption among others",
        lambda seen: seen.r_precision,
        judge=RETRIEVER,
        splits=EVERY_SPLIT,
        rules=_apart("test/r_precision", (REAL, COPYCAT), (SHUFFLED, NOISE)),
        share=True,
        on="captions",
    ),
    Metric(
        "kid",
        "KID",
        "distance of texture, noise that no eye sees included; 0 for one and the same.",
        # on val the reference holds the real pictures of the prompts, too, alike for every method: there it
        # compares methods, and is not to be compared with that on test
        lambda seen: seen.fidelity.kid,
        better="lower",
        splits=("val", "test"),
        rules=_apart("test/kid", (REAL, COPYCAT, RETRIEVAL, SHUFFLED), (NOISE,), "lower"),
        card="KID, the distance in texture to held-out real pictures: 0 is none, lower is better",
    ),
    _manifold(
        "precision",
        FIDELITY,
        share=True,
        card="precision, the share of its pictures whose texture lies where that of real ones does",
    ),
    _manifold(
        "recall",
        REACH,
        share=True,
        card="recall, the share of real pictures whose texture lies where that of its own does",
    ),
    _manifold("density", FIDELITY),
    _manifold("coverage", REACH, share=True),
    Metric(
        "diversity",
        "diversity",
        "how far pictures of one prompt lie apart in texture; artefacts count as much as variety",
        lambda seen: seen.diversity,
        better="as real",
        # real pictures of what a caption asks for are many
        rules=(Rule("test/diversity", REAL, RETRIEVAL, needs_attributes=True),),
    ),
    Metric(
        "copy_rate",
        "near-exact copies of training pictures",
        "share of pictures that are near-exact copies of training pictures",
        lambda seen: seen.memorisation.copy_rate,
        judge=None,
        better="lower",
        rules=(
            *_apart("memorisation/copy_rate", (REAL,), (COPYCAT, RETRIEVAL), "lower"),
            Rule("memorisation/copy_rate", NOISE, COPYCAT, "lower"),
            Bound("memorisation/copy_rate", REAL, at_most=0.05),
            Bound("memorisation/copy_rate", COPYCAT, at_least=0.95),
        ),
        share=True,
        on="copies",
        detailed=True,
    ),
)
METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}
"""By name, in the order in which they are told."""


def sentinel_rules(*, attributes: bool) -> list[Rule | Bound]:
    """What holds for any captioned images, and beside that what holds where the rows carry attributes."""
    rules = (rule for metric in METRICS.values() for rule in metric.rules)
    asked = (rule for rule in rules if attributes or not rule.needs_attributes)
    return sorted(asked, key=lambda rule: (rule.needs_attributes, isinstance(rule, Bound)))


def withholdable() -> set[str]:
    """Metrics that need not be right where images may be too diverse, as `test/precision`."""
    return {f"test/{metric.name}" for metric in METRICS.values() if metric.may_be_withheld}


def judging_networks() -> dict[str, str]:
    """Metric -> the network that gives it. The copy test has none."""
    return {metric.name: metric.judge for metric in METRICS.values() if metric.judge}


def of_images() -> list[Metric]:
    """What compares them with real images."""
    return [metric for metric in METRICS.values() if metric.on == "images"]
