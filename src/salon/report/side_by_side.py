"""Pictures of the same prompts side by side, cut out of the methods' sheets by CSS."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from salon.report.figures import SHEET_COLUMNS, InlineImage, MethodFigures, ReportData

REAL = "real"


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


def collect_sheets(data: ReportData, methods: Sequence[MethodFigures]) -> dict[str, InlineImage]:
    """CSS class -> the sheet that it holds."""
    sheets = {
        sheet_class(method.name, split, data): method.samples[split].sheet
        for method in methods
        for split in data.splits
    }
    sheets |= {f"worst-{method.name}": method.worst_sheet for method in methods if method.worst_sheet}
    return sheets | {sheet_class(REAL, split, data): data.real[split] for split in data.splits}


def side_by_side(split: str, data: ReportData, methods: Sequence[MethodFigures]) -> list[Card]:
    """The prompts whose pictures every method's sheet shows, in their order, the real ones last."""
    judged = {method.name: method.samples[split] for method in methods}
    shared = min(samples.sheet.rows for samples in judged.values()) * SHEET_COLUMNS
    cards = []
    for place, row in enumerate(judged[methods[0].name].rows[:shared]):
        drawn = [(name, found.sheet, found.rows[place]) for name, found in judged.items()]
        shown = [*drawn, (REAL, data.real[split], {"right": {}})]
        tiles = [
            _cut(sheet, sheet_class(name, split, data), name, place, seen) for name, sheet, seen in shown
        ]
        cards.append(Card(row["caption"], row["lang"], tiles))
    return cards


def show_worst(method: MethodFigures) -> list[Card]:
    """Of all judged pictures those with the most attributes wrong, each with its caption."""
    if (sheet := method.worst_sheet) is None:
        return []
    tiles = [
        _cut(sheet, f"worst-{method.name}", method.name, place, row) for place, row in enumerate(method.worst)
    ]
    return [Card(row["caption"], row["lang"], [t]) for row, t in zip(method.worst, tiles, strict=True)]


def sheet_class(name: str, split: str, data: ReportData) -> str:
    """The CSS class of one method's sheet of one split."""
    # splits are named after the data's attributes, which may hold anything: number them
    return f"sheet-{name}-{data.splits.index(split)}"


def _cut(sheet: InlineImage, css_class: str, name: str, place: int, judged: Mapping[str, Any]) -> Tile:
    row, column = divmod(place, SHEET_COLUMNS)
    return Tile(
        sheet=css_class,
        method=name,
        x_percent=round(100 * column / (SHEET_COLUMNS - 1), 3),
        y_percent=round(100 * row / max(1, sheet.rows - 1), 3),
        zoom_percent=round(100 * sheet.width / sheet.tile, 3),
        wrong={name: judged["seen"][name] for name, right in judged["right"].items() if not right},
    )
