"""The comparison of all methods as one page that reads without a network.

The jury's further witnesses (fidelity, novelty, memorisation, sentinels) become further keys of the metrics
files, and sections of the template after alignment.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from salon.errors import SalonError
from salon.judging.alignment import ALL
from salon.params import Params
from salon.report.figures import SHEET_COLUMNS, Evidence, MethodFigures, SplitFigures
from salon.report.plot import plot_dials
from salon.report.wording import (
    cheapest_good_setting,
    dial_title,
    enumerate_words,
    interval,
    language,
    percent,
    split_note,
    split_title,
    verdict,
)

WALL_OPEN = 16  # prompts shown at once; the others unfold
MISTAKES = 5  # confusions listed per attribute


@dataclass(frozen=True)
class Tile:
    """One picture of a sheet, and what the scorer says it shows."""

    sheet: str
    """CSS class that holds the sheet."""
    method: str
    x_percent: float
    y_percent: float
    zoom_percent: float
    """Width of the sheet over the width of one picture."""
    wrong: dict[str, str]
    """Attribute -> what is seen instead."""


@dataclass(frozen=True)
class Card:
    """One prompt with the picture of each method."""

    caption: str
    lang: str
    tiles: list[Tile]


def write_comparison(folder: Path, evidence: Evidence, params: Params) -> Path:
    """Write `index.html` into `folder`, whole or not at all.

    Raises:
        SalonError: the methods spent unequal budgets, or were judged on no common split.
    """
    text = render_comparison(evidence, params)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / ".index.html.part"
    temporary.write_text(text, encoding="utf-8")
    return temporary.replace(folder / "index.html")


def render_comparison(evidence: Evidence, params: Params) -> str:
    """The page as HTML. Captions and attribute values are the users' text: everything is escaped."""
    check_budgets(evidence.methods, tolerance=params.budget.tolerance)
    ranked = rank(evidence.methods)
    environment = Environment(
        loader=PackageLoader("salon.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "interval": interval,
        "language": language,
        "range": lambda estimate: f"{100 * estimate.low:.1f}–{100 * estimate.high:.1f}",
        "split_title": split_title,
        "split_note": split_note,
        "listed": enumerate_words,
        "dial_title": dial_title,
        "gflop": lambda flops: f"{flops / 1e9:,.0f}",
    }
    return environment.get_template("compare.html").render(
        ALL=ALL,
        attributes=[name for name in ranked[0].splits["test"].alignment if name != ALL],
        evidence=evidence,
        methods=ranked,
        params=params,
        plot=plot_dials({method.name: method.dial for method in ranked}),
        dial_notes=[note for method in ranked if (note := cheapest_good_setting(method))],
        sentences=verdict(evidence, ranked, bootstrap_samples=params.evaluate.bootstrap_samples),
        sheets=_sheets(ranked),
        wall={split: build_wall(split, ranked) for split in evidence.splits},
        wall_open=WALL_OPEN,
        most_mistakes=MISTAKES,
    )


def check_budgets(methods: Sequence[MethodFigures], *, tolerance: float) -> None:
    """Refuse to set side by side what did not cost the same.

    Raises:
        SalonError: the largest budget exceeds the smallest by more than `tolerance`.
    """
    spent = {method.name: float(method.cost["train_flops"]) for method in methods}
    least, most = min(spent, key=lambda name: spent[name]), max(spent, key=lambda name: spent[name])
    if spent[most] > spent[least] * (1 + tolerance):
        raise SalonError(
            f"{most} was trained with {spent[most]:.4g} FLOPs, {least} with {spent[least]:.4g}: more than "
            f"budget.tolerance = {tolerance:.0%} apart, so they cannot be ranked. Train both again under one "
            f"budget: dvc repro train@{most} train@{least}"
        )


def rank(methods: Sequence[MethodFigures]) -> list[MethodFigures]:
    """Best on `test` first; equals by name."""
    return sorted(methods, key=lambda method: (-method.splits["test"].alignment[ALL].value, method.name))


def build_wall(split: str, methods: Sequence[MethodFigures]) -> list[Card]:
    """The prompts whose pictures every method's sheet shows, in their order."""
    figures = [method.splits[split] for method in methods]
    shared = min(min(f.sheet.capacity, len(f.samples)) for f in figures)
    cards = []
    for place in range(shared):
        samples = [f.samples[place] for f in figures]
        if len({sample["id"] for sample in samples}) > 1:
            raise SalonError(
                f"the methods were judged on different prompts of {split}: run `dvc repro --force` on their "
                "evaluate stages"
            )
        tiles = [_tile(method, split, figure, place) for method, figure in zip(methods, figures, strict=True)]
        cards.append(Card(caption=samples[0]["caption"], lang=samples[0]["lang"], tiles=tiles))
    return cards


def _tile(method: MethodFigures, split: str, figures: SplitFigures, place: int) -> Tile:
    sheet, sample = figures.sheet, figures.samples[place]
    row, column = divmod(place, SHEET_COLUMNS)
    return Tile(
        sheet=_sheet_class(method, split),
        method=method.name,
        x_percent=round(100 * column / (SHEET_COLUMNS - 1), 3),
        y_percent=round(100 * row / max(1, sheet.rows - 1), 3),
        zoom_percent=round(100 * sheet.width / sheet.tile, 3),
        wrong={name: sample["seen"][name] for name, right in sample["right"].items() if not right},
    )


def _sheets(methods: Sequence[MethodFigures]) -> dict[str, Any]:
    return {
        _sheet_class(method, split): figures.sheet
        for method in methods
        for split, figures in method.splits.items()
    }


def _sheet_class(method: MethodFigures, split: str) -> str:
    # splits are named after the data's attributes, which may hold anything: number them
    return f"sheet-{method.name}-{list(method.splits).index(split)}"
