"""Reads what the comparison is made of: every figure and picture on the page comes from these files."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from salon.data.shards import read_tables
from salon.errors import SalonError
from salon.files import NoJsonError, read_json
from salon.judging.statistics import Estimate
from salon.params import Params
from salon.paths import SPLITS, Paths
from salon.report.figures import (
    FIDELITY,
    SENTINELS,
    SHEET_COLUMNS,
    SHEET_GAP,
    Alignment,
    Answers,
    CodecFigures,
    Copies,
    DialRow,
    Gate,
    InlineImage,
    MethodFigures,
    RatePoint,
    ReportData,
    SeedFigures,
    SeedStudy,
    SentinelFigures,
    Sheet,
    SplitFigures,
)

LEDGER = "training.json"
READING_ORDER = ("concept", "style", "background")  # files are sorted by key; other attributes follow by name


def load_report_data(params: Params, paths: Paths) -> ReportData:
    """Read the files of every method and codec of `params.yaml`, and of the sentinels.

    Raises:
        SalonError: a file is missing or does not hold what its stage writes.
    """
    clip = _read(paths.clip_metrics, "train_clip", needs=("cost", "probe", "probe_trials", "zero_shot"))
    rows = _read(paths.ingest_report, "ingest", needs=("splits",))["splits"]
    gate = _read(paths.sentinels, "sentinels", needs=("passed", "broken", "rules"))
    methods = [_read_method(name, paths) for name in params.methods]
    return ReportData(
        methods=methods,
        sentinels=[_read_sentinel(name, paths) for name in SENTINELS],
        gate=Gate(**gate),
        codecs=[_read_codec(name, paths) for name in params.codecs],
        real={split: _draw_real(paths, split, figures) for split, figures in methods[0].splits.items()},
        scorer=_read(paths.scorer_metrics, "scorer", needs=("held_out_accuracy", "held_out_pictures")),
        clip={
            **clip,
            "probe": _in_reading_order(clip["probe"]),
            "zero_shot": {
                split: _in_reading_order(clip["zero_shot"][split])
                for split in SPLITS
                if split in clip["zero_shot"]
            },
        },
        ingested={split: rows[split] for split in SPLITS if split in rows},
        seeds=_read_seeds(paths.seeds),
    )


def _read_method(name: str, paths: Paths) -> MethodFigures:
    stage = f"evaluate@{name}"
    path = paths.metrics(name)
    metrics = _read(path, stage, needs=("test", "memorisation", "cost"))
    try:
        return MethodFigures(
            name=name,
            splits={
                split: _read_split(value, split, name, paths) for split, value in _by_split(metrics).items()
            },
            fidelity=_fidelity(metrics["test"]),
            copies=_copies(metrics["memorisation"]),
            closest_pairs=_read_picture(paths.samples(name) / "memorisation.png", stage),
            worst=(worst := _read(paths.samples(name) / "worst.json", stage)),
            worst_sheet=_read_sheet(paths.samples(name) / "worst.png", stage) if worst else None,
            cost=metrics["cost"],
            ledger=_read(paths.method(name) / LEDGER, f"train@{name}", needs=("own", "shared")),
            dial=_read_dial(paths.dial(name), stage),
            guidance=_read_dial(paths.guidance(name), stage),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _foreign(path, stage, error) from None


def _read_sentinel(name: str, paths: Paths) -> SentinelFigures:
    path = paths.metrics(f"sentinel-{name}")
    metrics = _read(path, "sentinels", needs=("test", "memorisation"))
    try:
        return SentinelFigures(
            name=name,
            splits={split: _answers(value) for split, value in _by_split(metrics).items()},
            fidelity=_fidelity(metrics["test"]),
            copies=_copies(metrics["memorisation"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise _foreign(path, "sentinels", error) from None


def _by_split(metrics: Mapping[str, Any]) -> dict[str, Any]:
    novel = {f"novel/{kind}": value for kind, value in sorted(metrics.get("novel", {}).items())}
    return {"test": metrics["test"], **novel}


def _read_split(figures: Mapping[str, Any], split: str, name: str, paths: Paths) -> SplitFigures:
    stage = f"evaluate@{name}"
    stem = paths.samples(name) / split.replace("/", "-")
    return SplitFigures(
        **vars(_answers(figures)),
        samples=_read(stem.with_suffix(".json"), stage),
        sheet=_read_sheet(stem.with_suffix(".png"), stage),
    )


def _read_sheet(path: Path, stage: str) -> Sheet:
    return Sheet(**vars(_read_picture(path, stage)))


def _read_dial(path: Path, stage: str) -> list[DialRow]:
    rows = _read(path, stage)
    try:
        dial = [
            DialRow(row.pop("dial"), row.pop("setting"), row.pop("latency_ms_p50"), Estimate(**row))
            for row in rows
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise _foreign(path, stage, error) from None
    return sorted(dial, key=lambda row: row.setting)


def _read_codec(name: str, paths: Paths) -> CodecFigures:
    stage = f"codec@{name}"
    pictures = paths.codec_pictures(name)
    curve = pictures / "rate_distortion.json"
    rows = _read(curve, stage)
    try:
        points = [RatePoint(**row) for row in rows]
    except TypeError as error:
        raise _foreign(curve, stage, error) from None
    return CodecFigures(
        name=name,
        test=_read(paths.codec_metrics(name), stage, needs=("test",))["test"],
        curve=points,
        reconstructions=_read_picture(pictures / "reconstructions.png", stage),
    )


def _read_seeds(path: Path) -> SeedStudy | None:
    if not path.is_file():  # several trainings are no stage of the pipeline
        return None
    raw = _read(path, "", needs=("profile", "seeds", "methods"))
    methods = {
        name: SeedFigures(
            figures["all_right"], figures["minutes"], figures["diverged"], figures.get("verdicts", [])
        )
        for name, figures in raw["methods"].items()
    }
    return SeedStudy(profile=raw["profile"], seeds=raw["seeds"], methods=methods)


def _draw_real(paths: Paths, split: str, figures: SplitFigures) -> Sheet:
    """The real pictures of a split's first prompts, laid out as a method's sheet but not enlarged."""
    wanted = figures.ids[: figures.sheet.capacity]
    table = read_tables(paths.interim, [split.partition("/")[0]], columns=["id", "image"])
    encoded = dict(zip(table["id"].to_pylist(), table["image"].to_pylist(), strict=True))
    if absent := [row for row in wanted if row not in encoded]:
        raise SalonError(
            f"{paths.interim} holds no row {absent[0]} of {split}, which the methods were judged on: run "
            "`dvc repro --force` on their evaluate stages"
        )
    pictures = [Image.open(io.BytesIO(encoded[row]["bytes"])).convert("RGB") for row in wanted]
    step = pictures[0].width + SHEET_GAP
    rows = -(-len(pictures) // SHEET_COLUMNS)
    sheet = Image.new("RGB", (SHEET_COLUMNS * step - SHEET_GAP, rows * step - SHEET_GAP), (255, 255, 255))
    for place, picture in enumerate(pictures):
        row, column = divmod(place, SHEET_COLUMNS)
        sheet.paste(picture, (column * step, row * step))
    stream = io.BytesIO()
    sheet.save(stream, format="png")
    return Sheet(base64.b64encode(stream.getvalue()).decode("ascii"), *sheet.size)


def _fidelity(figures: Mapping[str, Any]) -> dict[str, Estimate]:
    return {name: Estimate(**figures[name]) for name in FIDELITY}


def _copies(raw: Mapping[str, Any]) -> Copies:
    return Copies(rate=Estimate(**raw["copy_rate"]), **{key: raw[key] for key in raw.keys() - {"copy_rate"}})


def _answers(figures: Mapping[str, Any]) -> Answers:
    return Answers(
        alignment=_alignment(figures["alignment"]),
        languages={
            key.removeprefix("alignment_"): _alignment(value)
            for key, value in figures.items()
            if key.startswith("alignment_")
        },
        phrasings={name: _alignment(value) for name, value in figures.get("phrasing", {}).items()},
        r_precision=Estimate(**figures["r_precision"]) if "r_precision" in figures else None,
    )


def _alignment(raw: Mapping[str, Any]) -> Alignment:
    return {name: Estimate(**value) for name, value in _in_reading_order(raw).items()}


def _in_reading_order(by_attribute: Mapping[str, Any]) -> dict[str, Any]:
    known = [name for name in READING_ORDER if name in by_attribute]
    return {name: by_attribute[name] for name in [*known, *sorted(by_attribute.keys() - set(known))]}


def _read_picture(path: Path, stage: str) -> InlineImage:
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
    except FileNotFoundError:
        raise _missing(path, stage) from None
    except OSError as error:
        raise SalonError(f"{path} is not a picture ({error}): run `dvc repro --force {stage}`") from None
    return InlineImage(base64.b64encode(data).decode("ascii"), width, height)


def _read(path: Path, stage: str, *, needs: Sequence[str] = ()) -> Any:
    try:
        value = read_json(path)
    except FileNotFoundError:
        raise _missing(path, stage) from None
    except NoJsonError as error:
        raise SalonError(f"{path} is not JSON ({error.reason}): run `dvc repro --force {stage}`") from None
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
