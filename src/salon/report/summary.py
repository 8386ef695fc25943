"""The page's summary in plain words. Every number in it is read from the figures or computed from them here.

Who is best, and who cannot be told apart from the best, is decided by the paired bootstrap over the prompts
of `test` and `novel`, which selected nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from salon.errors import SalonError
from salon.judging.alignment import ALL, CAPTION
from salon.judging.statistics import Comparison, Estimate, compare_all, probability_best
from salon.report.figures import MethodFigures, ReportData
from salon.report.wording import (
    decimal,
    enumerate_words,
    interval,
    language,
    novel_pair,
    percent,
    points,
    prompts_of_test,
    span,
)


@dataclass(frozen=True)
class Standing:
    """The methods on the prompts of one split, the most often right first."""

    split: str
    ranked: list[MethodFigures]
    probability_best: dict[str, float]
    behind: dict[str, Comparison]
    """Every method but the first -> the first against it."""

    @property
    def best(self) -> MethodFigures:
        return self.ranked[0]

    @property
    def tied(self) -> list[MethodFigures]:
        """Those that nothing tells from the best."""
        return [method for method in self.ranked[1:] if not self.behind[method.name].distinguishable]

    @property
    def worse(self) -> list[MethodFigures]:
        return [method for method in self.ranked[1:] if self.behind[method.name].distinguishable]

    def all_right(self, method: MethodFigures) -> Estimate:
        return method.splits[self.split].all_right


def summarize(data: ReportData, *, bootstrap_samples: int) -> list[list[str]]:
    """Paragraphs of sentences: who follows captions best, then speed, fidelity and copies."""
    if not data.gate.passed:
        return [[f"There is no verdict, for the jury itself is broken. {data.gate.broken}."]]
    standings = [stand(data.methods, split, bootstrap_samples=bootstrap_samples) for split in data.splits]
    known, *novel = standings
    return [
        _known(known),
        [*(_unseen(standing) for standing in novel), *_languages(known.best)],
        [*_speed(known), *_fidelity(data), *_copies(data.methods), *_warnings(data.methods)],
    ]


def stand(methods: Sequence[MethodFigures], split: str, *, bootstrap_samples: int) -> Standing:
    """Rank the methods on one split; equals by name.

    Raises:
        SalonError: they were judged on different prompts.
    """
    first = methods[0]
    for method in methods:
        if method.samples[split].ids != first.samples[split].ids:
            raise SalonError(
                f"{method.name} and {first.name} were judged on different prompts of {split}: run "
                "`dvc repro --force` on their evaluate stages"
            )
    ranked = sorted(methods, key=lambda method: (-method.splits[split].all_right.value, method.name))
    tables = [np.array([bool(sample[ALL]) for sample in method.samples[split].rows]) for method in ranked]
    rng = np.random.default_rng(0)
    chances = probability_best(tables, samples=bootstrap_samples, rng=rng)
    compared = compare_all(tables, samples=bootstrap_samples, rng=rng)
    return Standing(
        split=split,
        ranked=ranked,
        probability_best={method.name: float(chance) for method, chance in zip(ranked, chances, strict=True)},
        behind={method.name: compared[0, place] for place, method in enumerate(ranked[1:], start=1)},
    )


def unbeaten(methods: Sequence[MethodFigures]) -> list[MethodFigures]:
    """Those that no other equals in speed and right pictures on `test` and beats in one; fastest first."""

    def beats(other: MethodFigures, method: MethodFigures) -> bool:
        quality, others = (each.test.all_right.value for each in (method, other))
        as_good = _latency(other) <= _latency(method) and others >= quality
        return as_good and (_latency(other) < _latency(method) or others > quality)

    kept = [method for method in methods if not any(beats(other, method) for other in methods)]
    return sorted(kept, key=_latency)


def _known(standing: Standing) -> list[str]:
    best = standing.best
    together = standing.all_right(best)
    attributes = [name for name in best.test.alignment if name != ALL]
    drawn = f"draws {enumerate_words(attributes)} all as the caption says"
    if attributes == [CAPTION]:
        drawn = "draws what finds its own caption among others"
    if len(standing.ranked) == 1:
        return [
            f"Asked for {_asked(best)}, {best.name} {drawn} in "
            f"{percent(together.value)} of {together.n} pictures (95\N{NO-BREAK SPACE}% interval "
            f"{interval(together)})."
        ]
    if standing.tied:
        return _tie(standing, drawn)
    sentences = [
        f"At equal budgets {best.name} follows captions best: asked for {_asked(best)}, it "
        f"{drawn} in {percent(together.value)} of {together.n} pictures "
        f"(95\N{NO-BREAK SPACE}% interval {interval(together)}), and is the best of all "
        f"with probability {standing.probability_best[best.name]:.2f}."
    ]
    return [*sentences, f"It leads {_leads(standing)}, on the same prompts."]


def _tie(standing: Standing, drawn: str) -> list[str]:
    """What is said where nothing tells the best from some others, or from all."""
    together = standing.all_right(standing.best)
    level = [standing.best, *standing.tied]
    figures = [
        f"{method.name} {percent(standing.all_right(method).value)} ({interval(standing.all_right(method))})"
        for method in level
    ]
    asked = f"asked for {_asked(standing.best)}, each {drawn} about equally often"
    shares = f"of {together.n} pictures {enumerate_words(figures)}, with 95\N{NO-BREAK SPACE}% intervals"
    if standing.worse:
        names = enumerate_words([method.name for method in level])
        sentences = [
            f"At equal budgets {names} follow captions best, and these {together.n} prompts cannot tell them "
            f"apart: {asked} ({shares}).",
            f"{standing.best.name} leads {_leads(standing)}, on the same prompts.",
        ]
    else:
        sentences = [
            f"At equal budgets no method follows captions measurably better than another: {asked} ({shares})."
        ]
    close = [method for method in standing.tied if standing.behind[method.name].more_prompts]
    if close:
        more = [
            f"{method.name} by about {standing.behind[method.name].more_prompts:,} more prompts"
            for method in close
        ]
        sentences.append(
            f"{standing.best.name} could be told from {enumerate_words(more)}, if the differences are as "
            "large as they look."
        )
    return sentences


def _leads(standing: Standing) -> str:
    return enumerate_words(
        [f"{method.name} by {points(standing.behind[method.name].difference)}" for method in standing.worse]
    )


def _unseen(standing: Standing) -> str:
    best = standing.best
    together = standing.all_right(best)
    sentence = f"Where training never showed this {novel_pair(standing.split)} together, "
    if len(standing.ranked) == 1:
        sentence += f"everything is right in {percent(together.value)} of {together.n} ({interval(together)})"
    elif standing.tied:
        names = [
            f"{method.name} ({percent(standing.all_right(method).value)})"
            for method in [best, *standing.tied]
        ]
        sentence += f"{enumerate_words(names)} cannot be told apart"
        if standing.worse:
            sentence += " and lead the others"
    else:
        sentence += f"{best.name} is best with {percent(together.value)} ({interval(together)})"
    alignment = best.splits[standing.split].alignment
    weakest = min((name for name in alignment if name != ALL), key=lambda name: alignment[name].value)
    if alignment[weakest].value < 1:
        who = best.name if standing.tied else "it"
        sentence += f"; what {who} misses most is the {weakest}, right in {percent(alignment[weakest].value)}"
    return sentence + "."


def _asked(method: MethodFigures) -> str:
    alone = CAPTION in method.test.alignment
    return "captions held out of training" if alone else "combinations known from training"


def _called(method: MethodFigures) -> str:
    return prompts_of_test(captions_alone=CAPTION in method.test.alignment)


def _languages(best: MethodFigures) -> list[str]:
    by_language = best.test.languages
    if len(by_language) < 2:
        return []
    parts = [f"{percent(value[ALL].value)} of {language(tag)} captions" for tag, value in by_language.items()]
    return [f"On {_called(best)} {best.name} follows {enumerate_words(parts)}."]


def _latency(method: MethodFigures) -> float:
    return method.cost.latency_ms_p50


def _speed(standing: Standing) -> list[str]:
    best = standing.best
    alone = f"{_latency(best):.0f} ms (median, alone)"
    if len(standing.ranked) == 1:
        minutes = f"{best.cost.train_minutes:.1f} minutes of training"
        return [f"One picture takes {alone} after {minutes}."]
    first, second, *_ = sorted(standing.ranked, key=_latency)
    sentence = (
        f"The fastest is {first.name}: one picture takes {_latency(first):.0f} ms (median, alone), before "
        f"{second.name} with {_latency(second):.0f} ms"
    )
    if best.name not in (first.name, second.name):
        sentence += f"; {best.name} takes {_latency(best):.0f} ms"
    names = [method.name for method in unbeaten(standing.ranked)]
    if len(names) == len(standing.ranked):
        return [
            sentence + ".",
            "No method gains time over another, or right pictures, without losing the other.",
        ]
    return [
        sentence + ".",
        f"On {_called(best)} neither time nor right pictures are gained by taking any other than "
        f"{enumerate_words(names)}.",
    ]


def _fidelity(data: ReportData) -> list[str]:
    ranked = sorted(data.methods, key=lambda method: method.test.metrics["kid"].value)
    first, *others = ranked
    kid = first.test.metrics["kid"]
    real = next(sentinel.test.metrics["kid"] for sentinel in data.sentinels if sentinel.name == "real")
    figure = f"{decimal(kid.value)}, {span(kid)}; held-out real pictures get {decimal(real.value)}"
    if not others:
        return [f"The KID of its pictures from real ones is {figure}."]
    sentence = f"The pictures of {first.name} lie nearest to real ones (KID {figure})"
    near = [method.name for method in others if method.test.metrics["kid"].low <= kid.high]
    if near:
        sentence += f"; the intervals of {enumerate_words(near)} reach its"
    return [sentence + "."]


def _copies(methods: Sequence[MethodFigures]) -> list[str]:
    copying = [method for method in methods if method.copies.found]
    least = max(method.copies.detectable_rate for method in methods)
    seen = f"The test would find a share of {percent(least)} in four of five cases."
    if not copying:
        whose = "its pictures" if len(methods) == 1 else "the pictures of any method"
        return [f"No copies of training pictures were found among {whose}.", seen]
    parts = [
        f"{method.name} in {percent(rate.value)} of its pictures ({interval(rate)})"
        for method, rate in ((method, method.copies.copy_rate) for method in copying)
    ]
    rest = "" if len(copying) == len(methods) else "; the others show no copies beyond chance"
    return [f"Training pictures are copied by {enumerate_words(parts)}{rest}.", seen]


def _warnings(methods: Sequence[MethodFigures]) -> list[str]:
    warned = [method.name for method in methods if method.warnings]
    return [f"The training of {enumerate_words(warned)} gave warnings, below."] if warned else []
