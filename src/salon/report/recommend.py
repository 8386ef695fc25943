"""Which method to take, given what a team can afford. `salon.report.recommendation_text` says it in words.

Selection looks at `val`; the figures on `test`, which selected nothing, are what to expect. First come those
that follow captions as well as the best, as far as can be told; of these, those whose pictures are the most
like real ones, as far as two networks agree; of these, the fastest for one picture alone: a difference that
may not exist is not worth waiting for. All of it is of one training each, unless several full trainings are
kept (`salon.report.other_trainings`): then figures are their means, and differences hold over trainings.

Seconds and gigabytes hold for the machine that they were measured on. Asked for another, nothing is scaled:
with more cores of the same kind they are taken as they are, for anything else they are unknown.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import hypot, inf, sqrt
from typing import TypeVar

import numpy as np
from scipy.special import stdtrit

from salon.errors import SalonError
from salon.judging.comparison import SIGNIFICANCE, Comparison, compare_all
from salon.judging.metrics import LIKENESS
from salon.judging.record import Cost
from salon.judging.statistics import Estimate, bootstrap_mean, probability_best
from salon.report.figures import JudgedSource
from salon.report.other_trainings import ONE_TRAINING, RIGHT, OtherTrainings
from salon.report.wording import describe_machine, interval, percent

MAX_DIGITS = 6  # after the point, of a figure that breaks a limit
LIMITS = (
    ("max_memory_gb", "peak_memory_gb", 2, "training took {} GB of memory, at most {} GB are allowed"),
    ("max_latency_ms", "latency_ms_p50", 0, "a picture takes {} ms, at most {} are allowed"),
    (
        "min_images_per_second",
        "images_per_second_b16",
        0,
        "16 at once, it draws {} pictures a second, {} are needed",
    ),
    ("max_train_minutes", "train_minutes", 1, "training took {} minutes, at most {} are allowed"),
)
"""Constraint, the part of the cost that must keep it, its digits at least, and what is said of a breach."""


@dataclass(frozen=True)
class Constraints:
    """What must hold; `None` asks for nothing."""

    max_latency_ms: float | None = None
    """Median of one picture alone, on the machine that measured it."""
    min_images_per_second: float | None = None
    """16 pictures at once, on the machine that measured it."""
    max_train_minutes: float | None = None
    """Shared stages included."""
    max_copy_rate: float | None = None
    """Share of pictures that are copies of a training picture, by the copy test's estimate."""
    min_alignment: float | None = None
    """Share of validation prompts with everything right."""
    max_memory_gb: float | None = None
    """Peak of the training."""
    device: str | None = None
    """Where it is to run: `cpu`, or `cuda` with or without the name of the GPU."""
    cores: int | None = None
    """CPU cores that it is to run on."""

    def __post_init__(self) -> None:
        """
        Raises:
            SalonError: a limit is no number that could be kept.
        """
        for name, limit in vars(self).items():
            if isinstance(limit, int | float) and not 0 <= limit < inf:
                raise SalonError(f"--{name.replace('_', '-')} {limit:g}: give a number that is not negative")
        if self.cores == 0:
            raise SalonError("--cores 0: nothing runs on no core")


@dataclass(frozen=True)
class Contender(JudgedSource):
    """What the choice is made of."""

    scores: Mapping[str, bool]
    """Validation prompt -> whether the picture shows all that the caption says."""

    @property
    def alignment(self) -> float:
        return self.judgement.splits["val"].all_right.value

    @property
    def likeness(self) -> Estimate:
        """Likeness lost by its pictures of the validation prompts; 0 is as real."""
        return self.judgement.splits["val"].metrics["likeness"]

    def stands_for(self, constraints: Constraints) -> bool:
        """Whether the seconds measured for it are known to hold where it is to run."""
        device = self.cost.device.lower()
        fits = all(word in device for word in (constraints.device or device).lower().split())
        return fits and (constraints.cores is None or constraints.cores >= self.cost.cpu_cores)


@dataclass(frozen=True)
class Place:
    """One method in the ranking."""

    contender: Contender
    alignment: Estimate
    """On `val`."""
    probability_best: float | None
    """Among those that qualify, over prompts; `None` where trainings count as well."""
    behind: Comparison | None
    """The method of the highest alignment against this one; `None` for that method itself."""

    @property
    def tied(self) -> bool:
        """Whether nothing tells it from the method of the highest alignment."""
        return self.behind is None or not self.behind.distinguishable


@dataclass(frozen=True)
class Recommendation:
    """Those that qualify, the one to take first, and why the others do not."""

    ranking: list[Place]
    rejected: dict[str, list[str]]
    constraints: Constraints
    others: OtherTrainings
    """What the differences were held against."""


def recommend(
    contenders: Sequence[Contender],
    constraints: Constraints,
    *,
    budget_tolerance: float,
    bootstrap_samples: int,
    seed: int,
    others: OtherTrainings = ONE_TRAINING,
) -> Recommendation:
    """Rank those that keep the constraints.

    Raises:
        SalonError: nothing qualifies, or the methods cannot be compared (other prompts, other budgets).
    """
    if not contenders:
        raise SalonError("no method was judged yet: run `dvc repro`")
    check_prompts({each.name: sorted(each.scores) for each in contenders}, split="val")
    check_budgets({each.name: each.cost for each in contenders}, tolerance=budget_tolerance)
    if others.count([each.name for each in contenders]) > 1:
        contenders = [replace(c, judgement=others.averaged(c.judgement, c.name)) for c in contenders]
    rejected = {each.name: why for each in contenders if (why := violations(each, constraints))}
    fit = [each for each in contenders if each.name not in rejected]
    if not fit:
        reasons = " ".join(f"{name}: {'; '.join(why)}." for name, why in rejected.items())
        trained = ", or train longer" if constraints.min_alignment is not None else ""
        raise SalonError(f"nothing qualifies. {reasons} Relax a constraint{trained}")
    fit.sort(key=lambda contender: (-contender.alignment, contender.latency_ms))
    places = _place(fit, others, bootstrap_samples=bootstrap_samples, seed=seed)
    nearest = nearest_to_real([place.contender for place in places if place.tied], others)

    def order(place: Place) -> tuple[int, float, str]:
        each = place.contender
        if not place.tied:
            return 2, 0, ""  # by alignment, as they came
        return (0, each.latency_ms, each.name) if each in nearest else (1, each.likeness.value, each.name)

    return Recommendation(sorted(places, key=order), rejected, constraints, others)


def _place(
    fit: Sequence[Contender], others: OtherTrainings, *, bootstrap_samples: int, seed: int
) -> list[Place]:
    """Those that qualify against the first of them, which is the most often right."""
    names, rights = [each.name for each in fit], [each.judgement.splits["val"].all_right for each in fit]
    if others.count(names) > 1:
        pairs = others.compare(names, f"val/{RIGHT}")
        behind = [pairs[names[0], name] for name in names[1:]]
        return [Place(*each) for each in zip(fit, rights, [None] * len(fit), [None, *behind], strict=True)]
    rng = np.random.default_rng(seed)
    prompts = sorted(fit[0].scores)
    tables = [np.array([contender.scores[prompt] for prompt in prompts]) for contender in fit]
    chances = probability_best(tables, samples=bootstrap_samples, rng=rng)
    spreads = others.spreads(names, f"val/{RIGHT}", rights)
    compared = compare_all(tables, spreads=spreads)
    return [
        Place(
            contender=contender,
            alignment=bootstrap_mean(table, samples=bootstrap_samples, rng=rng),
            probability_best=None if spreads else float(chances[i]),
            behind=compared[0, i] if i else None,
        )
        for i, (contender, table) in enumerate(zip(fit, tables, strict=True))
    ]


S = TypeVar("S", bound=JudgedSource)


def nearest_to_real(
    sources: Sequence[S], others: OtherTrainings = ONE_TRAINING, *, split: str = "val"
) -> list[S]:
    """The most like real ones, and those whose difference from it may be none.

    It may be where the 95 % interval reaches zero in the eyes of one of the networks. Of one training each,
    the errors over prompts count as independent, and so do the spreads of other trainings where they are
    known. On the same prompts and reference they are not, and the difference is known better than that: some
    that could be told apart are kept.
    """
    first = min(sources, key=lambda source: source.judgement.splits[split].metrics[LIKENESS[0]].value)
    names, count = [source.name for source in sources], others.count([source.name for source in sources])

    def reaches(place: int, metric: str) -> bool:
        figures = [source.judgement.splits[split].metrics[metric] for source in sources]
        one, best = figures[place], figures[names.index(first.name)]
        if count > 1:
            found = others.compare(names, f"{split}/{metric}")[sources[place].name, first.name]
            return not (found.distinguishable and found.difference.value > 0)
        errors = [best.high - best.value, one.value - one.low]
        if known := others.spreads(names, f"{split}/{metric}", figures):
            parts = [known[place], known[names.index(first.name)]]
            free = min(free for _, free in parts)
            errors.append(
                -float(stdtrit(free, SIGNIFICANCE / 2)) * sqrt(sum(variance for variance, _ in parts))
            )
        return one.value - best.value <= hypot(*errors)

    return [
        source
        for place, source in enumerate(sources)
        if source is first or any(reaches(place, metric) for metric in LIKENESS)
    ]


def violations(contender: Contender, constraints: Constraints) -> list[str]:
    """What a method breaks, each as a clause. Written so that a figure that is no number does not pass."""
    cost, copies = contender.cost, contender.copies.copy_rate
    found = []
    timed = (constraints.max_latency_ms, constraints.min_images_per_second, constraints.max_train_minutes)
    if any(limit is not None for limit in timed) and not contender.stands_for(constraints):
        found.append(f"its time was measured on {describe_machine(cost)}, and is not known elsewhere")
    for name, figure, digits, clause in LIMITS:
        limit, measured = getattr(constraints, name), getattr(cost, figure)
        if limit is not None and not (measured >= limit if name.startswith("min_") else measured <= limit):
            found.append(clause.format(_apart(measured, limit, digits=digits), f"{limit:.10g}"))
    if (limit := constraints.max_copy_rate) is not None and not copies.value <= limit:
        found.append(
            f"{percent(copies.value)} of its pictures are copies ({interval(copies)}), at most "
            f"{percent(limit)} are allowed"
        )
    if (limit := constraints.min_alignment) is not None and not contender.alignment >= limit:
        right = percent(contender.alignment)
        found.append(f"everything is right in {right} of val, {percent(limit)} are needed")
    return found


def _apart(measured: float, limit: float, *, digits: int) -> str:
    """`measured` with at least so many digits, and as many more as tell it from the limit that it breaks."""
    while digits < MAX_DIGITS and f"{measured:.{digits}f}" == f"{limit:.{digits}f}":
        digits += 1
    return f"{measured:.{digits}f}"


def check_prompts(judged: Mapping[str, Collection[str]], *, split: str) -> None:
    """Refuse to set side by side what was judged on different prompts.

    Args:
        judged: Method -> identities of its prompts.

    Raises:
        SalonError: they differ, or there are none.
    """
    first, ids = next(iter(judged.items()))
    for name, others in judged.items():
        if not others or others != ids:
            raise SalonError(
                f"{name} and {first} were judged on different prompts of {split}: run `dvc repro --force` on "
                "their evaluate stages"
            )


def check_budgets(costs: Mapping[str, Cost], *, tolerance: float) -> None:
    """Refuse to set side by side what did not cost the same.

    Raises:
        SalonError: the largest budget exceeds the smallest by more than `tolerance`.
    """
    spent = {name: cost.train_flops for name, cost in costs.items()}
    least, most = min(spent, key=lambda name: spent[name]), max(spent, key=lambda name: spent[name])
    if spent[most] > spent[least] * (1 + tolerance):
        raise SalonError(
            f"{most} was trained with {spent[most]:.4g} FLOPs, {least} with {spent[least]:.4g}: more than "
            f"budget.tolerance = {tolerance:.0%} apart, so they cannot be ranked. Train both again under one "
            f"budget: dvc repro train@{most} train@{least}"
        )
