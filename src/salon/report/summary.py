"""The page's summary in plain words. Every number in it is read from the figures or computed from them here.

Who is best, and who cannot be told apart from the best, is decided on the prompts of `test` and `novel`,
which selected nothing, paired and over their drawings (`salon.judging.comparison`); and over trainings, where
several of each method are kept (`salon.report.other_trainings`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from salon.judging.alignment import ALL, labels_of
from salon.judging.comparison import Comparison, compare_all
from salon.judging.statistics import probability_best
from salon.report.figures import MethodFigures, ReportData
from salon.report.other_trainings import ONE_TRAINING, RIGHT, OtherTrainings
from salon.report.recommend import nearest_to_real
from salon.report.wording import (
    enumerate_words,
    interval,
    language,
    novel_pair,
    percent,
    points,
    prompts_of_test,
)

COLLAPSED = 0.3  # diversity within a caption below which a method is said to have none
NEARLY_ALL = 0.9  # of pictures


@dataclass(frozen=True)
class Standing:
    """The methods on the prompts of one split, the most often right first."""

    split: str
    ranked: list[MethodFigures]
    probability_best: float | None
    """Of the first, over prompts; `None` where trainings count as well."""
    behind: dict[str, Comparison]
    """Every method but the first -> the first against it."""
    basis: str
    """What the comparison is made of, as `of one training each`."""
    trainings: int = 1

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

    def right(self, method: MethodFigures) -> str:
        """`97.3 %`, of the pictures of this split."""
        return percent(method.splits[self.split].all_right.value)

    def around(self, method: MethodFigures) -> str:
        """`95.8 to 98.5 %`, the interval of the same."""
        return interval(method.splits[self.split].all_right)


def summarize(data: ReportData, *, bootstrap_samples: int) -> list[list[str]]:
    """Paragraphs of sentences: who follows captions best, then speed, fidelity and copies."""
    if not data.gate.passed:
        return [[f"There is no verdict, for the jury itself is broken. {data.gate.broken}."]]
    if data.others.count([method.name for method in data.methods]) > 1:
        data = replace(data, methods=[_averaged(method, data.others) for method in data.methods])
    standings = [
        stand(data.methods, split, bootstrap_samples=bootstrap_samples, others=data.others)
        for split in data.splits
    ]
    known, *novel = standings
    called = prompts_of_test(captions_alone=data.captions_alone)
    return [
        _known(known, data),
        [*(_unseen(standing) for standing in novel), *_languages(known.best, called)],
        [*_speed(known, called), *_fidelity(data), *_copies(data.methods), *_warnings(data.methods)],
    ]


def _averaged(method: MethodFigures, others: OtherTrainings) -> MethodFigures:
    return replace(method, judgement=others.averaged(method.judgement, method.name))


def stand(
    methods: Sequence[MethodFigures],
    split: str,
    *,
    bootstrap_samples: int,
    others: OtherTrainings = ONE_TRAINING,
) -> Standing:
    """Rank the methods on one split, on the same prompts; equals by name."""
    ranked = sorted(methods, key=lambda method: (-method.splits[split].all_right.value, method.name))
    names = [method.name for method in ranked]
    basis = others.basis(names)
    if others.count(names) > 1:
        pairs = others.compare(names, f"{split}/{RIGHT}")
        behind = {name: pairs[names[0], name] for name in names[1:]}
        return Standing(split, ranked, None, behind, basis, others.count(names))
    tables = [np.array([bool(sample[ALL]) for sample in method.samples[split].rows]) for method in ranked]
    clusters = labels_of([row["wanted"] for row in ranked[0].samples[split].rows], split)
    rng = np.random.default_rng(0)
    chances = probability_best(tables, samples=bootstrap_samples, rng=rng, clusters=clusters)
    own = [method.splits[split].all_right for method in ranked]
    spreads = others.spreads(names, f"{split}/{RIGHT}", own)
    compared = compare_all(tables, clusters=clusters, spreads=spreads)
    behind = {name: compared[0, place] for place, name in enumerate(names) if place}
    return Standing(split, ranked, None if spreads else float(chances[0]), behind, basis)


def unbeaten(methods: Sequence[MethodFigures]) -> list[MethodFigures]:
    """Those that no other equals in speed and right pictures on `test` and beats in one; fastest first."""
    losses = np.array([(method.latency_ms, -method.test.all_right.value) for method in methods])
    beaten = [((losses <= own).all(axis=1) & (losses < own).any(axis=1)).any() for own in losses]
    kept = [method for method, lost in zip(methods, beaten, strict=True) if not lost]
    return sorted(kept, key=lambda method: method.latency_ms)


def _known(standing: Standing, data: ReportData) -> list[str]:
    best, level = standing.best, [standing.best, *standing.tied]
    prompts = best.test.all_right.n
    pictures = f"{prompts} pictures{' of each training' if standing.trainings > 1 else ''}"
    asked, drawn = "captions held out of training", "draws what finds its own caption among others"
    if not data.captions_alone:
        asked = "combinations known from training"
        drawn = f"draws {enumerate_words(data.attributes)} all as the caption says"
    around = f"95\N{NO-BREAK SPACE}% interval {standing.around(best)}"
    share = f"{standing.right(best)} of {pictures} ({around})"
    if len(standing.ranked) == 1:
        return [f"Asked for {asked}, {best.name} {drawn} in {share}."]
    lead = [f"{m.name} by {points(standing.behind[m.name].difference)}" for m in standing.worse]
    leads = f"leads {enumerate_words(lead)}, on the same prompts."
    budgets, chance = f"At equal budgets, {standing.basis},", ""
    if standing.probability_best is not None:
        chance = f", and is the best of all with probability {standing.probability_best:.2f}"
    if not standing.tied:
        return [
            f"{budgets} {best.name} follows captions best: asked for {asked}, it {drawn} in {share}{chance}.",
            f"It {leads}",
        ]
    figures = [f"{method.name} {standing.right(method)} ({standing.around(method)})" for method in level]
    shares = f"of {pictures} {enumerate_words(figures)}, with 95\N{NO-BREAK SPACE}% intervals"
    equally = f"asked for {asked}, each {drawn} about equally often ({shares})."
    sentences = [f"{budgets} no method follows captions measurably better than another: {equally}"]
    if standing.worse:
        names = enumerate_words([method.name for method in level])
        evidence = f"these {prompts} prompts cannot tell them apart"
        if standing.probability_best is None:
            evidence = "nothing tells them apart"
        apart = f"{evidence}: {equally}"
        sentences = [f"{budgets} {names} follow captions best, and {apart}", f"{best.name} {leads}"]
    if standing.probability_best is None:  # more prompts would not do
        return sentences
    missing = {method.name: standing.behind[method.name].more_prompts for method in standing.tied}
    if more := [f"{name} by about {count:,} more prompts" for name, count in missing.items() if count]:
        told = f"{best.name} could be told from {enumerate_words(more)}"
        sentences.append(f"{told}, if the differences are as large as they look.")
    return sentences


def _unseen(standing: Standing) -> str:
    best, figures = standing.best, standing.best.splits[standing.split]
    share = f"{standing.right(best)}{{}} ({standing.around(best)})"
    if len(standing.ranked) == 1:
        found = f"everything is right in {share.format(f' of {figures.all_right.n}')}"
    elif standing.tied:
        names = [f"{method.name} ({standing.right(method)})" for method in [best, *standing.tied]]
        found = f"{enumerate_words(names)} cannot be told apart"
        found += ", ahead of the others on these prompts" if standing.worse else ""
    else:
        found = f"{best.name} is most often right on these prompts, in {share.format('')}"
    sentence = f"Where training never showed this {novel_pair(standing.split)} together, {found}"
    shares = {name: share.value for name, share in figures.alignment.items() if name != ALL}
    weakest, right = min(shares.items(), key=lambda share: share[1])
    if right < 1:
        who = best.name if standing.tied else "it"
        sentence += f"; what {who} misses most is the {weakest}, right in {percent(right)}"
    return sentence + "."


def _languages(best: MethodFigures, called: str) -> list[str]:
    parts = [f"{percent(v[ALL].value)} of {language(tag)} captions" for tag, v in best.test.languages.items()]
    return [f"On {called} {best.name} follows {enumerate_words(parts)}."] if len(parts) > 1 else []


def _speed(standing: Standing, called: str) -> list[str]:
    best = standing.best
    if len(standing.ranked) == 1:
        minutes = f"{best.cost.train_minutes:.1f} minutes of training"
        return [f"One picture takes {best.latency_ms:.0f} ms (median, alone) after {minutes}."]
    first, second, *_ = sorted(standing.ranked, key=lambda method: method.latency_ms)
    sentence = (
        f"The fastest is {first.name}: one picture takes {first.latency_ms:.0f} ms (median, alone), before "
        f"{second.name} with {second.latency_ms:.0f} ms"
    )
    if best.name not in (first.name, second.name):
        sentence += f"; {best.name} takes {best.latency_ms:.0f} ms"
    names = [method.name for method in unbeaten(standing.ranked)]
    gained = "No method gains time over another, or right pictures, without losing the other."
    if len(names) < len(standing.ranked):
        other = f"any other than {enumerate_words(names)}"
        gained = f"On {called} neither time nor right pictures are gained by taking {other}."
    return [sentence + ".", gained]


def _fidelity(data: ReportData) -> list[str]:
    first, *others = sorted(data.methods, key=lambda method: method.test.metrics["likeness"].value)
    lost = first.test.metrics["likeness"]
    figure = f"{percent(lost.value)} ({interval(lost)})"
    scale = "of the way from real pictures to blends of two of them"
    if not others:
        return [f"Its pictures lie {figure} {scale}.", *_collapsed(data.methods)]
    near = nearest_to_real(data.methods, data.others, split="test")
    behind = [method.name for method in others if method not in near]
    found = f"The pictures of {first.name} lie nearest to real ones, {figure} {scale}"
    if len(behind) == len(others):
        return [f"{found}; two networks agree.", *_collapsed(data.methods)]
    reach = [method.name for method in others if method.name not in behind]
    found += f"; {enumerate_words(reach)} cannot be told from it by two networks that agree"
    return [f"{found}.", *_collapsed(data.methods)]


def _collapsed(methods: Sequence[MethodFigures]) -> list[str]:
    varied = {method.name: method.test.metrics.get("diversity") for method in methods}
    poor = {name: share for name, share in varied.items() if share and share.high < COLLAPSED}
    parts = [f"{name} ({percent(share.value)} of real variety)" for name, share in poor.items()]
    return [f"Of one caption, nearly one picture is drawn by {enumerate_words(parts)}."] if parts else []


def _copies(methods: Sequence[MethodFigures]) -> list[str]:
    copying = [method for method in methods if method.copies.found]
    blind = [f"{m.name} from {percent(m.copies.detectable_rate)} on" for m in methods]
    seen = (
        "Copies are found where they are enough, through each method's own channel: "
        f"of {enumerate_words(blind)}."
    )
    if not copying:
        whose = "its pictures" if len(methods) == 1 else "the pictures of any method"
        said = [f"No copies of training pictures were found among {whose}.", seen]
    else:
        rates = [
            (m.name, max(m.copies.splits.values(), key=lambda each: each.copy_rate.low)) for m in copying
        ]
        parts = [
            f"{name} in {percent(found.copy_rate.value)} of its pictures ({interval(found.copy_rate)})"
            for name, found in rates
        ]
        rest = "" if len(copying) == len(methods) else "; the others show none beyond chance"
        said = [f"Training pictures are copied by {enumerate_words(parts)}{rest}.", seen]
    return [*said, *_drawn_near(methods), *_drawings(methods)]


def _drawn_near(methods: Sequence[MethodFigures]) -> list[str]:
    near = [(method.name, method.copies.nearer) for method in methods if method.copies.nearer.low > 0.5]
    parts = [f"{name} ({percent(share.value)}, {interval(share)})" for name, share in near]
    if not parts:
        return []
    return [
        "More often than the half that chance gives, pictures lie nearer to training than to what training "
        f"did not see, of {enumerate_words(parts)}."
    ]


def _drawings(methods: Sequence[MethodFigures]) -> list[str]:
    shown = {m.name: found for m in methods if (found := m.copies.splits["test"].drawing)}
    if not shown:
        return []
    parts = [f"{name} {percent(share.value)}" for name, share in shown.items()]
    many = (
        "Nearly every picture" if min(share.value for share in shown.values()) > NEARLY_ALL else "A picture"
    )
    often = "reproduces" if many.startswith("Nearly") else "may reproduce"
    return [
        f"{many} of a known combination {often} one identifiable source drawing, the one asked for "
        f"({enumerate_words(parts)}): that is what the captions ask, and what these methods learn to draw."
    ]


def _warnings(methods: Sequence[MethodFigures]) -> list[str]:
    warned = [method.name for method in methods if method.warnings]
    return [f"The training of {enumerate_words(warned)} gave warnings, below."] if warned else []
