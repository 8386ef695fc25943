"""What the comparison reads: every figure and picture on the page comes from one of these files."""

import base64
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from salon.errors import SalonError
from salon.jsonfile import read_json
from salon.judging.statistics import Estimate
from salon.params import Params
from salon.paths import SPLITS, Paths

LEDGER = "training.json"
READING_ORDER = ("concept", "style", "background")  # files are sorted by key; other attributes follow by name
SHEET_COLUMNS = 8  # as the evaluate stage lays its sheets out
SHEET_GAP = 2  # pixels between two pictures, likewise

Alignment = dict[str, Estimate]
"""Attribute, or `all` -> share of pictures that show it as asked."""


@dataclass(frozen=True)
class Sheet:
    """The first judged pictures of one split in one PNG, row by row."""

    base64_png: str
    width: int
    height: int

    @property
    def tile(self) -> int:
        """Side of one picture in pixels of the sheet."""
        return (self.width + SHEET_GAP) // SHEET_COLUMNS - SHEET_GAP

    @property
    def rows(self) -> int:
        return (self.height + SHEET_GAP) // (self.tile + SHEET_GAP)

    @property
    def capacity(self) -> int:
        return self.rows * SHEET_COLUMNS


@dataclass(frozen=True)
class SplitFigures:
    """One method on the prompts of one split."""

    alignment: Alignment
    languages: dict[str, Alignment]
    """Language tag -> alignment over the captions in it."""
    samples: list[dict[str, Any]]
    """Every judged picture: `id`, `caption`, `lang`, `wanted`, `seen`, `right`, `all`."""
    sheet: Sheet

    def mistakes(self, attribute: str, *, most: int) -> list[tuple[str, str, int, int]]:
        """The most frequent (wanted, seen, times seen instead, times wanted), commonest first."""
        asked = Counter(sample["wanted"][attribute] for sample in self.samples)
        pairs = Counter(
            (sample["wanted"][attribute], sample["seen"][attribute])
            for sample in self.samples
            if not sample["right"][attribute]
        )
        ordered = sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
        return [(wanted, seen, times, asked[wanted]) for (wanted, seen), times in ordered[:most]]


@dataclass(frozen=True)
class DialRow:
    """Quality and latency at one setting of a method's own dial, on validation prompts."""

    dial: str
    """Argument of `sample`, e.g. `num_inference_steps`."""
    setting: int
    latency_ms_p50: float
    all_right: Estimate


@dataclass(frozen=True)
class MethodFigures:
    """Everything the page says about one method."""

    name: str
    splits: dict[str, SplitFigures]
    """`test`, then `novel/<kind>` for each kind."""
    cost: dict[str, float]
    ledger: dict[str, Any]
    """What training cost: `own`, and `shared` by stage."""
    dial: list[DialRow]
    """Cheapest setting first."""


@dataclass(frozen=True)
class Evidence:
    """All that the page is made of."""

    methods: list[MethodFigures]
    scorer: dict[str, Any]
    clip: dict[str, Any]
    ingested: dict[str, int]
    """Rows per split."""

    @property
    def splits(self) -> list[str]:
        """Splits that every method was judged on, in the order of the first method."""
        first, *others = self.methods
        return [split for split in first.splits if all(split in other.splits for other in others)]


def read_evidence(params: Params, paths: Paths) -> Evidence:
    """Read the files of every method of `params.yaml`.

    Raises:
        SalonError: a file is missing or does not hold what its stage writes.
    """
    clip = _read(paths.clip_metrics, "train_clip", needs=("cost", "probe", "probe_trials"))
    rows = _read(paths.ingest_report, "ingest", needs=("splits",))["splits"]
    return Evidence(
        methods=[_read_method(name, paths) for name in params.methods],
        scorer=_read(paths.scorer_metrics, "scorer", needs=("held_out_accuracy", "held_out_pictures")),
        clip={**clip, "probe": _in_reading_order(clip["probe"])},
        ingested={split: rows[split] for split in SPLITS if split in rows},
    )


def _read_method(name: str, paths: Paths) -> MethodFigures:
    stage = f"evaluate@{name}"
    metrics = _read(paths.metrics(name), stage, needs=("test", "cost"))
    figures = {
        "test": metrics["test"],
        **{f"novel/{kind}": value for kind, value in sorted(metrics.get("novel", {}).items())},
    }
    return MethodFigures(
        name=name,
        splits={split: _read_split(value, split, name, paths) for split, value in figures.items()},
        cost=metrics["cost"],
        ledger=_read(paths.method(name) / LEDGER, f"train@{name}", needs=("own", "shared")),
        dial=_read_dial(paths.dial(name), stage),
    )


def _read_dial(path: Path, stage: str) -> list[DialRow]:
    try:
        rows = [
            DialRow(row.pop("dial"), row.pop("setting"), row.pop("latency_ms_p50"), Estimate(**row))
            for row in _read(path, stage)
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise _foreign(path, stage, error) from None
    return sorted(rows, key=lambda row: row.setting)


def _read_split(figures: Mapping[str, Any], split: str, name: str, paths: Paths) -> SplitFigures:
    stage = f"evaluate@{name}"
    stem = paths.samples(name) / split.replace("/", "-")
    try:
        return SplitFigures(
            alignment=_alignment(figures["alignment"]),
            languages={
                key.removeprefix("alignment_"): _alignment(value)
                for key, value in figures.items()
                if key.startswith("alignment_")
            },
            samples=_read(stem.with_suffix(".json"), stage),
            sheet=_read_sheet(stem.with_suffix(".png"), stage),
        )
    except (KeyError, TypeError) as error:
        raise _foreign(paths.metrics(name), stage, error) from None


def _alignment(raw: Mapping[str, Any]) -> Alignment:
    return {name: Estimate(**value) for name, value in _in_reading_order(raw).items()}


def _in_reading_order(by_attribute: Mapping[str, Any]) -> dict[str, Any]:
    known = [name for name in READING_ORDER if name in by_attribute]
    return {name: by_attribute[name] for name in [*known, *sorted(by_attribute.keys() - set(known))]}


def _read_sheet(path: Path, stage: str) -> Sheet:
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
    except FileNotFoundError:
        raise _missing(path, stage) from None
    except OSError as error:
        raise SalonError(f"{path} is not a picture ({error}): run `dvc repro --force {stage}`") from None
    return Sheet(base64.b64encode(data).decode("ascii"), width, height)


def _read(path: Path, stage: str, *, needs: Sequence[str] = ()) -> Any:
    try:
        value = read_json(path)
    except FileNotFoundError:
        raise _missing(path, stage) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SalonError(f"{path} is not JSON ({error}): run `dvc repro --force {stage}`") from None
    absent = [key for key in needs if key not in value]
    if absent:
        raise SalonError(f"{path} has no {', '.join(absent)}: run `dvc repro --force {stage}`")
    return value


def _foreign(path: Path, stage: str, error: Exception) -> SalonError:
    return SalonError(
        f"{path} is not what its stage writes ({type(error).__name__}: {error}): "
        f"run `dvc repro --force {stage}`"
    )


def _missing(path: Path, stage: str) -> SalonError:
    return SalonError(f"{path} does not exist: run `dvc repro {stage}`")
