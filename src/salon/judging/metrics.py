"""The table of metrics: what each means, who measures it, where the sentinels must stand, how it reads.

A new metric is one row here and one function that measures it. Jury, record, rules for the sentinels,
leakage check, comparison page, model card and MLflow's runs go through this table.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

from salon.judging.record import Judgement
from salon.judging.sentinel_rules import (
    BLEND,
    COPYCAT,
    FAINT,
    GAPS,
    JPEG,
    MEMORISER,
    NOISE,
    REAL,
    RETRIEVAL,
    SHUFFLED,
    THROUGH_CODEC,
    AnyRule,
    Bound,
    Near,
    Rule,
)
from salon.judging.statistics import Estimate
from salon.judging.views import SHARP, SMOOTHED, SMOOTHED_AGAIN, View

SCORER, RETRIEVER = "scorer", "retrieval"
EVERY_SPLIT = ("val", "test", "novel")
LIKENESS = ("likeness", "likeness_again")
"""The metrics that must agree before one method is called more like real pictures than another."""
FIDELITY, REACH = "do they lie where real pictures lie?", "are the real ones reached?"


@dataclass(frozen=True)
class Metric:
    """One figure with an interval."""

    name: str
    """Its key below the split, as `kid` in `test/kid`."""
    title: str
    """Its name on the page."""
    means: str
    """What it says, on the page; metrics that share a meaning share a sentence."""
    measure: Callable[[Any], Estimate | None]
    """Of the images of one split, a `salon.judging.jury.JudgedImages`."""
    judge: str | None = SMOOTHED.network
    """The network that gives it, which no method may have trained with."""
    better: Literal["higher", "lower", "as real"] = "higher"
    splits: tuple[str, ...] = ("test",)
    """Where it is measured; choices look at `val`, reports at the others."""
    rules: tuple[AnyRule, ...] = ()
    """Where the sentinels must stand."""
    may_be_withheld: bool = False
    """Whether it asks for neighbours among real images, and is lost where these are too diverse for any."""
    share: bool = False
    """Whether it reads as a percentage, on a scale to 100; a plain number otherwise."""
    on: Literal["captions", "images", "copies"] = "images"
    """What it judges, which is the part of the page that shows it."""
    optional: bool = False
    """Whether there are pictures that it cannot be measured of: it is `None` then, and shown nowhere."""
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


INVISIBLE = (FAINT, JPEG)


def _neighbours(name: str, means: str, *, within: float = 0.1, gaps: bool = False, **reads: Any) -> Metric:
    """A metric of neighbours, which what nobody sees leaves where it is."""
    key = f"test/{name}"
    rules: tuple[AnyRule, ...] = (
        Rule(key, REAL, NOISE),
        *(Near(key, faint, REAL, within) for faint in INVISIBLE),
        *([Rule(key, REAL, GAPS)] if gaps else []),
    )
    measure = attrgetter(f"neighbours.{name}")
    return Metric(name, name, means, measure, rules=rules, may_be_withheld=True, **reads)


def _likeness(name: str, title: str, means: str, view: View, *rules: AnyRule, **reads: Any) -> Metric:
    """A distance from real pictures as a share of that of blends."""
    return Metric(
        name,
        title,
        means,
        lambda seen: seen.distance(view),
        judge=view.network,
        better="lower",
        rules=(*_apart(f"test/{name}", (REAL, COPYCAT, RETRIEVAL, SHUFFLED), (NOISE,), "lower"), *rules),
        share=True,
        **reads,
    )


def _blind(name: str) -> tuple[AnyRule, ...]:
    """What nobody sees costs no likeness, and the damage that it is measured by costs all of it."""
    key = f"test/{name}"
    near = (Near(key, faint, REAL, 0.05) for faint in INVISIBLE)
    return *near, *_apart(key, (REAL,), (BLEND,), "lower")


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
    # on val the reference holds the real pictures of the prompts, too, alike for every method: there it
    # compares methods, and is not to be compared with that on test
    _likeness(
        "likeness",
        "likeness lost",
        "how far from real pictures, of the way to blends of two of them, all seen through the same noise",
        SMOOTHED,
        *_blind("likeness"),
        splits=("val", "test"),
        card="likeness lost: how far its pictures lie from real ones, of the way to blends of two",
    ),
    _likeness(
        "likeness_again",
        "likeness lost, second network",
        "the same by another network; what one alone sees is not told",
        SMOOTHED_AGAIN,
        *_blind("likeness_again"),
        splits=("val", "test"),
    ),
    _neighbours(
        "precision",
        FIDELITY,
        share=True,
        card="precision, the share of its pictures that lie where real ones do",
    ),
    _neighbours(
        "recall", REACH, share=True, card="recall, the share of real pictures that lie where its own do"
    ),
    _neighbours("density", FIDELITY, within=0.2),
    _neighbours("coverage", REACH, share=True, gaps=True),
    _likeness(
        "texture",
        "texture lost",
        "the same without that noise: what no eye sees counts, and a codec costs most of it",
        SHARP,
    ),
    Metric(
        "diversity",
        "diversity",
        "how much pictures of one caption vary, as thumbnails, of what real ones do",
        lambda seen: seen.diversity,
        judge=None,
        better="as real",
        rules=(
            Rule("test/diversity", REAL, NOISE),
            Bound("test/diversity", RETRIEVAL, at_most=0.05),  # one picture per caption
        ),
        share=True,
        optional=True,
        card="diversity: how much its pictures of one caption vary, of what real ones do",
    ),
    Metric(
        "factor_diversity",
        "of place, size and light",
        "the same of what the renderer of these scenes draws at random, as a network of its own reads it",
        lambda seen: seen.factor_diversity,
        judge="regressor",
        better="as real",
        rules=(
            Rule("test/factor_diversity", REAL, NOISE),
            Bound("test/factor_diversity", RETRIEVAL, at_most=0.05),
        ),
        share=True,
        optional=True,
    ),
    Metric(
        "copy_rate",
        "copies of training pictures",
        "share of pictures that are copies of training pictures, as the method's own codec would leave them",
        lambda seen: seen.memorisation.shares.copy_rate,
        judge=None,
        better="lower",
        rules=(
            *_apart("memorisation/copy_rate", (REAL, NOISE), (COPYCAT, RETRIEVAL), "lower"),
            Bound("memorisation/copy_rate", REAL, at_most=0.05),
            Bound("memorisation/copy_rate", COPYCAT, at_least=0.95),
        ),
        share=True,
        on="copies",
        detailed=True,
    ),
    Metric(
        "nearer",
        "nearer to training",
        "share of pictures nearer to training than to what training did not see: half without memory",
        lambda seen: seen.memorisation.shares.nearer,
        judge=None,
        better="lower",
        rules=(
            *_apart("memorisation/nearer", (REAL,), (COPYCAT, RETRIEVAL), "lower"),
            Bound("memorisation/nearer", REAL, at_least=0.45, at_most=0.55),
            Bound("memorisation/nearer", COPYCAT, at_least=0.95),
        ),
        share=True,
        on="copies",
        detailed=True,
    ),
    Metric(
        "drawing",
        "the drawing asked for",
        "share of pictures that reproduce the training drawing that was asked for, wherever it stands",
        lambda seen: seen.memorisation.shares.drawing,
        judge=None,
        better="as real",
        rules=_apart("memorisation/drawing", (REAL, COPYCAT), (SHUFFLED, NOISE)),
        share=True,
        on="copies",
        optional=True,
        detailed=True,
    ),
    Metric(
        "another_drawing",
        "another drawing",
        "share of pictures that reproduce a training drawing that was not asked for",
        lambda seen: seen.memorisation.shares.another_drawing,
        judge=None,
        better="lower",
        rules=_apart("memorisation/another_drawing", (REAL,), (SHUFFLED,), "lower"),
        share=True,
        on="copies",
        optional=True,
        detailed=True,
    ),
)
METRICS: dict[str, Metric] = {row.name: row for row in _ROWS}
"""By name, in the order in which they are told."""


def sentinel_rules(
    *, attributes: bool, codecs: Sequence[str] = (), shadows: bool = True, sees_copies: bool = True
) -> list[AnyRule]:
    """What holds for any captioned images, and beside that what holds where the rows carry attributes.

    Args:
        codecs: What has been through one is worse than real pictures, and no noise; and a perfect memoriser
            that draws through one is found, where there are shadows.
        shadows: Whether each training picture has one; else the copy test has less power, and holds fewer.
        sees_copies: Whether the copy test would see a small share of copies; with shadows it must.
    """
    rows = [metric for metric in METRICS.values() if shadows or metric.on != "copies"]
    if not shadows and sees_copies:
        rows.append(METRICS["copy_rate"])
    rules = [rule for metric in rows for rule in metric.rules]
    for codec in codecs:
        rules += _apart("test/likeness", (THROUGH_CODEC + codec,), (NOISE,), "lower")
        rules += _apart("test/texture", (REAL,), (THROUGH_CODEC + codec,), "lower")
        if shadows:
            memoriser = MEMORISER + codec
            rules += _apart("memorisation/copy_rate", (REAL,), (memoriser,), "lower")
            rules += [
                Bound("memorisation/copy_rate", memoriser, at_least=0.95),
                Bound("memorisation/nearer", memoriser, at_least=0.9),
            ]
    asked = (rule for rule in rules if attributes or not rule.needs_attributes)
    return sorted(asked, key=lambda rule: (rule.needs_attributes, isinstance(rule, Bound)))


def withholdable() -> set[str]:
    """Metrics that need not be right where images may be too diverse, as `test/precision`."""
    return {f"test/{metric.name}" for metric in METRICS.values() if metric.may_be_withheld}


def better_than_real(judged: Judgement, real: Judgement) -> dict[str, str]:
    """Figures that real pictures do not reach, as `test/diversity` -> why they mean nothing."""
    found = {}
    of_real = real.estimates()
    for keys, figure in judged.estimates().items():
        metric, theirs = METRICS.get(keys[-1]), of_real.get(keys)
        if metric is None or theirs is None or metric.detailed:
            continue
        beaten = figure.high < theirs.low if metric.better == "lower" else figure.low > theirs.high
        if beaten:
            found["/".join(keys)] = (
                f"{metric.title} of {figure.value:.4g} ({figure.low:.4g} to {figure.high:.4g}) is better "
                f"than that of real pictures, {theirs.value:.4g} ({theirs.low:.4g} to {theirs.high:.4g})"
            )
    return found


def judging_networks() -> dict[str, str]:
    """Metric -> the network that gives it. The copy test has none."""
    return {metric.name: metric.judge for metric in METRICS.values() if metric.judge}


def of_images() -> list[Metric]:
    """What compares them with real images."""
    return [metric for metric in METRICS.values() if metric.on == "images"]
