"""What trainings with other seeds say when methods are compared.

One training of each method speaks of these weights. With three full ones of the same settings at least,
towers and codecs included, the figures speak of the methods (`salon.judging.replicates`). A study of other
settings on the same data, budget and jury says how far a training moves a figure: what lies closer is not
ranked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from salon.judging.alignment import ALL
from salon.judging.comparison import Comparison, Component
from salon.judging.record import Judgement
from salon.judging.replicates import FEWEST, Trained, compare_trained, mean_of, spreads
from salon.judging.statistics import Clusters, Estimate
from salon.params import Params
from salon.report.seed_study import Made, SeedStudy

RIGHT = f"alignment/{ALL}"
Pairs = Mapping[tuple[str, str], Comparison]
"""(name, name) -> the first against the second, in both orders."""


@dataclass(frozen=True)
class OtherTrainings:
    """A study of several trainings, and what it may be asked."""

    study: SeedStudy | None = None
    """`None` until somebody made one."""
    of_these: bool = False
    """Whether it has the settings of the present methods."""
    alike: bool = False
    """Whether its figures were measured on the same data, by the same jury, under the same budget."""

    @classmethod
    def load(cls, path: Path, params: Params) -> "OtherTrainings":
        """The study that is kept, held against the present settings."""
        study, made = SeedStudy.load(path), Made.of(params)
        if study is None:
            return cls()
        return cls(study, study.made.settings == made.settings, study.made.conditions == made.conditions)

    def count(self, names: Sequence[str]) -> int:
        """Trainings of each of these methods, where there are enough to speak of the methods; else 1."""
        if self.study is None or not self.of_these or not set(names) <= set(self.study.ranked):
            return 1
        return min(len(self.study.methods[name].finished) for name in names)

    def basis(self, names: Sequence[str]) -> str:
        """What a comparison of these methods is made of, in words."""
        if (count := self.count(names)) > 1:
            return f"over {count} full trainings of each"
        seen = ", and the spread of others" if self.spreads(names, f"test/{RIGHT}", None) else ""
        return f"of one training each{seen}"

    def averaged(self, judgement: Judgement, name: str) -> Judgement:
        """The judgement of a method with the headline figures of all its trainings in place of one's."""
        study = self._known
        splits = {}
        for split, seen in judgement.splits.items():

            def mean(key: str, own: Estimate, split: str = split) -> Estimate:
                figure = f"{split}/{key}"
                return self.mean(name, figure) if figure in study.figures(name) else own

            alignment = {**seen.alignment, ALL: mean(RIGHT, seen.all_right)}
            metrics = {key: mean(key, own) for key, own in seen.metrics.items()}
            splits[split] = replace(seen, alignment=alignment, metrics=metrics)
        return replace(judgement, splits=splits)

    def mean(self, name: str, figure: str) -> Estimate:
        """Over the trainings of one method, with an interval for other trainings and prompts."""
        return means(self._known, figure)[name]

    def compare(self, names: Sequence[str], figure: str) -> Pairs:
        """All pairs over trainings and prompts."""
        return compare_methods(self._known, names, figure)

    def spreads(
        self, names: Sequence[str], figure: str, own: Sequence[Estimate] | None
    ) -> list[Component] | None:
        """Variance of one training of each method; `None` where nothing is known of it.

        Args:
            own: The figure of each method now, for those that the study has not; else these are left out.
        """
        if self.study is None or not self.alike:
            return None
        known = []
        for place, name in enumerate(names):
            if _has(self.study, name, figure):
                known.append(self.study.trained(name, figure))
            elif own is not None:
                known.append(Trained([own[place]]))
        try:
            return spreads(known)
        except ValueError:
            return None

    @property
    def _known(self) -> SeedStudy:
        assert self.study is not None
        return self.study


ONE_TRAINING = OtherTrainings()
"""Nothing is known of others."""


def _has(study: SeedStudy, name: str, figure: str) -> bool:
    return name in study.methods and figure in study.figures(name)


def with_figure(study: SeedStudy, figure: str, *, fewest: int = FEWEST) -> list[str]:
    """Methods with so many trainings that have this figure."""
    return [
        name
        for name, one in study.methods.items()
        if len(one.finished) >= fewest and _has(study, name, figure)
    ]


def means(study: SeedStudy, figure: str) -> dict[str, Estimate]:
    """Mean of each method with at least two trainings; empty where no interval is known."""
    names = with_figure(study, figure, fewest=2)
    trained = [study.trained(name, figure) for name in names]
    return {
        name: mean_of(each, spread)
        for name, each, spread in zip(names, trained, spreads(trained) if trained else [], strict=True)
    }


def compare_methods(study: SeedStudy, names: Sequence[str], figure: str) -> Pairs:
    """All pairs of these methods, which hold together."""
    split = figure.removesuffix("/alignment/all")
    clusters: Clusters = np.array(study.clusters[split]) if split in study.clusters else None
    compared = compare_trained([study.trained(name, figure) for name in names], clusters=clusters)
    pairs = {(names[i], names[j]): found for (i, j), found in compared.items()}
    return pairs | {(second, first): found.reversed for (first, second), found in pairs.items()}


def agreeing(by_network: Sequence[Pairs], better: str, worse: str) -> bool:
    """Whether every network finds the pictures of one method nearer to real ones (less is better)."""
    return all(
        pairs[better, worse].distinguishable and pairs[better, worse].difference.value < 0
        for pairs in by_network
    )
