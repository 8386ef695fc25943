"""Which method to take, given what a team can afford. `salon.report.recommendation_text` says it in words.

Selection looks at `val`; the figures on `test`, which selected nothing, are what to expect. First come those
that follow captions as well as the best, as far as can be told; of these, those whose pictures are the most
like real ones (KID); of these, the fastest for one picture alone: a difference that may not exist is not
worth waiting for.

Seconds and gigabytes hold for the machine that they were measured on. Asked for another, nothing is scaled:
with more cores of the same kind they are taken as they are, for anything else they are unknown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import hypot, inf

import numpy as np

from salon.errors import SalonError
from salon.judging.record import Cost, Judgement
from salon.judging.statistics import Comparison, Estimate, bootstrap_mean, compare_all, probability_best
from salon.report.wording import describe_machine, interval, percent

MAX_DIGITS = 6  # after the point, of a figure that breaks a limit


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
    """Share of pictures that copy a training picture."""
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

    @property
    def asks_for_time(self) -> bool:
        """Whether a limit is set on what another machine changes."""
        limits = (self.max_latency_ms, self.min_images_per_second, self.max_train_minutes)
        return any(limit is not None for limit in limits)


@dataclass(frozen=True)
class Contender:
    """What the choice is made of."""

    name: str
    scores: Mapping[str, bool]
    """Validation prompt -> whether the picture shows all that the caption says."""
    judgement: Judgement

    @property
    def alignment(self) -> float:
        return float(np.mean(list(self.scores.values())))

    @property
    def test(self) -> Estimate:
        """Share with everything right on `test`."""
        return self.judgement.splits["test"].all_right

    @property
    def kid(self) -> Estimate:
        """KID of its pictures of the validation prompts; 0 is as real pictures."""
        return self.judgement.splits["val"].metrics["kid"]

    @property
    def copy_rate(self) -> Estimate | None:
        """`None` where memorisation was not measured."""
        copies = self.judgement.memorisation
        return copies.copy_rate if copies else None

    @property
    def cost(self) -> Cost:
        assert self.judgement.cost is not None
        return self.judgement.cost

    def stands_for(self, constraints: Constraints) -> bool:
        """Whether the seconds measured for it are known to hold where it is to run."""
        device, cores = self.cost.device, self.cost.cpu_cores
        if device is None or cores is None:
            return False
        wanted = (constraints.device or device).lower().split()
        return all(word in device.lower() for word in wanted) and (
            constraints.cores is None or constraints.cores >= cores
        )


@dataclass(frozen=True)
class Place:
    """One method in the ranking."""

    contender: Contender
    alignment: Estimate
    """On `val`."""
    probability_best: float
    """Among those that qualify."""
    behind: Comparison | None
    """The method of the highest alignment against this one; `None` for that method itself."""

    @property
    def tied(self) -> bool:
        """Whether nothing tells it from the method of the highest alignment."""
        return self.behind is None or not self.behind.distinguishable

    @property
    def latency_ms(self) -> float:
        return self.contender.cost.latency_ms_p50

    @property
    def kid(self) -> Estimate:
        return self.contender.kid


@dataclass(frozen=True)
class Recommendation:
    """Those that qualify, the one to take first, and why the others do not."""

    ranking: list[Place]
    rejected: dict[str, list[str]]
    constraints: Constraints = Constraints()


def recommend(
    contenders: Sequence[Contender],
    constraints: Constraints,
    *,
    budget_tolerance: float,
    bootstrap_samples: int,
    seed: int,
) -> Recommendation:
    """Rank those that keep the constraints.

    Raises:
        SalonError: nothing qualifies, or the methods cannot be compared (other prompts, other budgets).
    """
    _check_comparable(contenders, budget_tolerance)
    rejected = {
        contender.name: why for contender in contenders if (why := violations(contender, constraints))
    }
    fit = [contender for contender in contenders if contender.name not in rejected]
    if not fit:
        reasons = " ".join(f"{name}: {'; '.join(why)}." for name, why in rejected.items())
        trained = ", or train longer" if constraints.min_alignment is not None else ""
        raise SalonError(f"nothing qualifies. {reasons} Relax a constraint{trained}")
    rng = np.random.default_rng(seed)
    fit.sort(key=lambda contender: (-contender.alignment, contender.cost.latency_ms_p50))
    prompts = sorted(fit[0].scores)
    tables = [np.array([contender.scores[prompt] for prompt in prompts]) for contender in fit]
    chances = probability_best(tables, samples=bootstrap_samples, rng=rng)
    compared = compare_all(tables, samples=bootstrap_samples, rng=rng)
    places = [
        Place(
            contender=contender,
            alignment=bootstrap_mean(table, samples=bootstrap_samples, rng=rng),
            probability_best=float(chance),
            behind=compared[0, i] if i else None,
        )
        for i, (contender, table, chance) in enumerate(zip(fit, tables, chances, strict=True))
    ]
    tied = [place for place in places if place.tied]
    nearest = nearest_to_real(tied)
    further = [place for place in tied if place not in nearest]
    ranking = [
        *sorted(nearest, key=lambda place: (place.latency_ms, place.contender.name)),
        *sorted(further, key=lambda place: (place.kid.value, place.contender.name)),
        *(place for place in places if not place.tied),  # by alignment, as they came
    ]
    return Recommendation(ranking, rejected, constraints)


def nearest_to_real(places: Sequence[Place]) -> list[Place]:
    """That of the lowest KID, and those whose difference from it may be none: its 95 % interval reaches zero.

    The two errors count as independent. On the same prompts and reference they are not, and the difference is
    known better than that: some that could be told apart are kept.
    """
    best = min((place.kid for place in places), key=lambda kid: kid.value)
    return [
        place
        for place in places
        if place.kid.value - best.value <= hypot(best.high - best.value, place.kid.value - place.kid.low)
    ]


def violations(contender: Contender, constraints: Constraints) -> list[str]:
    """What a method breaks, each as a clause. Written so that a figure that is no number does not pass."""
    found = []
    cost = contender.cost
    if constraints.asks_for_time and (constraints.device or constraints.cores):
        if cost.device is None:
            found.append("what its time was measured on was not written down")
        elif not contender.stands_for(constraints):
            found.append(f"its time was measured on {describe_machine(cost)}, and is not known elsewhere")
    known, copies = cost.peak_memory_gb, contender.copy_rate
    if (limit := constraints.max_memory_gb) is not None and (known is None or not known <= limit):
        taken = "an unknown amount" if known is None else f"{_apart(known, limit, digits=2)} GB"
        found.append(f"training took {taken} of memory, at most {limit:.10g} GB are allowed")
    if (limit := constraints.max_latency_ms) is not None and not cost.latency_ms_p50 <= limit:
        taken = _apart(cost.latency_ms_p50, limit)
        found.append(f"a picture takes {taken} ms, at most {limit:.10g} are allowed")
    if (limit := constraints.min_images_per_second) is not None and not cost.images_per_second_b16 >= limit:
        drawn = _apart(cost.images_per_second_b16, limit)
        found.append(f"16 at once, it draws {drawn} pictures a second, {limit:.10g} are needed")
    if (limit := constraints.max_train_minutes) is not None and not cost.train_minutes <= limit:
        taken = _apart(cost.train_minutes, limit, digits=1)
        found.append(f"training took {taken} minutes, at most {limit:.10g} are allowed")
    if (limit := constraints.max_copy_rate) is not None and copies is None:
        found.append("whether it copies training pictures was not measured")
    elif limit is not None and copies and not copies.value <= limit:
        found.append(
            f"{percent(copies.value)} of its pictures are copies ({interval(copies)}), at most "
            f"{percent(limit)} are allowed"
        )
    if (limit := constraints.min_alignment) is not None and not contender.alignment >= limit:
        right = percent(contender.alignment)
        found.append(f"everything is right in {right} of val, {percent(limit)} are needed")
    return found


def _apart(measured: float, limit: float, *, digits: int = 0) -> str:
    """`measured` with at least so many digits, and as many more as tell it from the limit that it breaks."""
    while digits < MAX_DIGITS and f"{measured:.{digits}f}" == f"{limit:.{digits}f}":
        digits += 1
    return f"{measured:.{digits}f}"


def _check_comparable(contenders: Sequence[Contender], budget_tolerance: float) -> None:
    if not contenders:
        raise SalonError("no method was judged yet: run `dvc repro`")
    for contender in contenders:
        if not contender.scores or set(contender.scores) != set(contenders[0].scores):
            raise SalonError(
                f"{contender.name} and {contenders[0].name} were judged on different prompts: run "
                "`dvc repro --force` on their evaluate stages"
            )
    check_budgets({each.name: each.cost for each in contenders}, tolerance=budget_tolerance)


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
