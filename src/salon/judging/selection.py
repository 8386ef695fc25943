"""Which settings of a method's sampler are taken, and what was tried: `reports/selection/<name>.json`.

Lower temperature and more guidance make pictures more alike and can raise likeness by it: a search for
likeness alone selects for collapse. So likeness decides among settings that keep variety and alignment, and
of those that these pictures cannot tell from the best the cheapest is taken (the one-standard-error rule,
Breiman 1984, sec. 3.4.3).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from salon.files import write_json
from salon.judging.record import read_output
from salon.judging.statistics import Z_TWO_SIDED_5, Estimate

DIVERSITY_KEPT = 0.9  # of the diversity at the method's own settings, what others must keep
COLLAPSED = 0.3  # diversity, of that of real pictures, below which nothing is chosen if it can be helped
ALIGNMENT_LOST = 0.01  # most that alignment may fall behind the best
FLOPS_DIFFER = 1.01  # pictures whose counted operations are nearer than that cost the same
MEASURES = ("likeness", "alignment", "diversity")


@dataclass(frozen=True)
class Trial:
    """What was measured of one setting, all on the same prompts of `val`."""

    number: int
    """0 is the method's own settings."""
    settings: Mapping[str, float]
    likeness: Estimate
    """Lost: 0 is as real pictures."""
    alignment: Estimate
    """Share of pictures with everything right."""
    diversity: Estimate | None
    """Within a caption, of that of real pictures; `None` where there are too few of these."""
    picture_flops: int
    """Counted for one picture."""
    draw_ms_p50: float
    """One picture alone, from text states to pixels."""
    pictures: int
    """Drawn for this trial."""
    seconds: float
    """Drawing and judging."""
    verdict: str = ""
    """Why it was taken, or was not."""

    def row(self) -> dict[str, Any]:
        """Flat, for a table or a plot."""
        found = {"trial": self.number, "draw_ms_p50": self.draw_ms_p50, "gflops": self.picture_flops / 1e9}
        for name in MEASURES:
            if figure := getattr(self, name):
                ends = {f"{name}_low": figure.low, f"{name}_high": figure.high}
                found |= {name: figure.value} | ends
        return {key: round(value, 4) for key, value in found.items()} | dict(self.settings)

    def to_json(self) -> dict[str, Any]:
        figures = {name: getattr(self, name) for name in MEASURES}
        return asdict(self) | {name: figure and figure.to_json() for name, figure in figures.items()}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Trial":
        return cls(**{**raw, **{name: raw[name] and Estimate(**raw[name]) for name in MEASURES}})


@dataclass(frozen=True)
class Selection:
    """All trials of one method, and the one whose settings it draws with from then on."""

    trials: list[Trial]
    chosen: int
    reason: str
    """Why this one, in a sentence."""

    @property
    def trial(self) -> Trial:
        return self.trials[self.chosen]

    @property
    def settings(self) -> Mapping[str, float]:
        return self.trial.settings

    @property
    def cost(self) -> dict[str, float]:
        """What the search cost, which is charged to the method beside its training."""
        return {
            "trials": len(self.trials),
            "pictures": sum(trial.pictures for trial in self.trials),
            "flops": sum(trial.pictures * trial.picture_flops for trial in self.trials),
            "minutes": round(sum(trial.seconds for trial in self.trials) / 60, 3),
        }

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        trials = [trial.to_json() for trial in self.trials]
        chosen = {"chosen": self.chosen, "settings": dict(self.settings), "reason": self.reason}
        write_json(path, {**chosen, "cost": self.cost, "trials": trials})

    @classmethod
    def load(cls, path: Path) -> "Selection":
        """Read what `save` wrote.

        Raises:
            SalonError: the file is missing, damaged, or something else.
        """

        def parse(raw: Mapping[str, Any]) -> "Selection":
            trials = [Trial.from_json(trial) for trial in raw["trials"]]
            if raw["settings"] != trials[raw["chosen"]].settings:
                raise ValueError("the settings are not those of the chosen trial")
            return cls(trials, raw["chosen"], raw["reason"])

        return read_output(path, parse, stage=f"select@{path.stem}")


Difference = Callable[[Trial, Trial], Estimate]
"""Likeness lost by the first beyond the second, on the same prompts."""


def choose(trials: Sequence[Trial], difference: Difference) -> Selection:
    """Best likeness subject to diversity and alignment; of equals the cheapest.

    Where nothing varies enough, the method keeps its own settings.
    """
    verdicts: dict[int, str] = {}
    floor = _floor(trials)
    for trial in trials:
        if trial.diversity and trial.diversity.value < floor:
            verdicts[trial.number] = f"diversity {trial.diversity.value:.2f} is below {floor:.2f}"
    varied = [trial for trial in trials if trial.number not in verdicts]
    if not varied:
        reason = f"the method's own settings stay: at none does diversity reach {floor:.2f}"
        return _selection(trials, trials[0], verdicts, reason)
    most = max(trial.alignment.value for trial in varied)
    for trial in varied:
        if trial.alignment.value < most - ALIGNMENT_LOST - 1e-9:
            behind = 100 * (most - trial.alignment.value)
            verdicts[trial.number] = f"alignment is {behind:.1f} points behind the best"
    fit = [trial for trial in varied if trial.number not in verdicts]
    best = min(fit, key=lambda trial: (trial.likeness.value, trial.picture_flops, trial.number))
    level = [best]
    for trial in fit:
        if trial is best:
            continue
        behind_best = difference(trial, best)
        standard_error = (behind_best.high - behind_best.low) / (2 * Z_TWO_SIDED_5)
        if behind_best.value <= standard_error:
            level.append(trial)
        verdicts[trial.number] = f"likeness lost is {behind_best.value:.3f} ± {standard_error:.3f} more"
    least = FLOPS_DIFFER * min(trial.picture_flops for trial in level)
    cheap = [trial for trial in level if trial.picture_flops <= least]
    chosen = min(cheap, key=lambda trial: (trial.likeness.value, trial.number))
    for trial in level:
        if trial is not chosen:
            dearer = f"a picture costs {trial.picture_flops / chosen.picture_flops:.1f} times as much"
            verdicts[trial.number] = f"{verdicts.get(trial.number, 'nearest to real pictures')}; {dearer}"
    return _selection(trials, chosen, verdicts, _reason(trials, chosen, best, fit, floor))


def _floor(trials: Sequence[Trial]) -> float:
    """Least diversity: nearly that of the method's own settings, and none that has collapsed."""
    own = trials[0].diversity
    return max(COLLAPSED, DIVERSITY_KEPT * min(1.0, own.value)) if own else 0.0


def _reason(trials: Sequence[Trial], chosen: Trial, best: Trial, fit: Sequence[Trial], floor: float) -> str:
    among = f"{len(fit)} of {len(trials)} trials that keep alignment"
    among += f" and a diversity of {floor:.2f}" if chosen.diversity else " (diversity could not be measured)"
    lost = f"likeness lost {chosen.likeness.value:.3f}"
    found = f"trial {chosen.number}: of {among} it lies nearest to real pictures ({lost})"
    if chosen is not best:
        found = (
            f"trial {chosen.number}: of {among} it is the cheapest that these prompts cannot tell from trial "
            f"{best.number}, the nearest to real pictures ({lost} against {best.likeness.value:.3f})"
        )
    return found + ("; these are the method's own settings" if chosen.number == 0 else "")


def _selection(trials: Sequence[Trial], chosen: Trial, verdicts: Mapping[int, str], reason: str) -> Selection:
    told = {
        **verdicts,
        chosen.number: f"taken; {verdicts[chosen.number]}" if chosen.number in verdicts else "taken",
    }
    judged = [replace(trial, verdict=told.get(trial.number, "")) for trial in trials]
    return Selection(judged, trials.index(chosen), reason)
