"""Reads what the comparison is made of: every figure and picture on the page comes from these files."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from salon.data.shards import read_tables
from salon.errors import SalonError
from salon.judging.metrics import better_than_real, of_images
from salon.judging.record import Gate, Judgement, RatePoint, in_reading_order, read_output
from salon.judging.selection import Selection
from salon.judging.sentinel_rules import REAL, SENTINELS
from salon.params import Params
from salon.paths import SPLITS, Paths
from salon.report.figures import (
    SHEET_COLUMNS,
    SHEET_GAP,
    CodecFigures,
    InlineImage,
    JudgedSamples,
    JudgedSource,
    MethodFigures,
    ReportData,
)
from salon.report.other_trainings import OtherTrainings

LEDGER = "training.json"
T = TypeVar("T")


def load_report_data(params: Params, paths: Paths) -> ReportData:
    """Read the files of every method and codec of `params.yaml`, and of the sentinels.

    Raises:
        SalonError: a file is missing or does not hold what its stage writes.
    """
    clip = _read(paths.clip_metrics, "train_clip", needs=("cost", "probe", "probe_trials", "zero_shot"))
    named = _in_order_of_splits(clip["zero_shot"])
    gate = Gate.load(paths.sentinels)
    sentinels = [
        JudgedSource(name, Judgement.load(paths.metrics(f"sentinel-{name}"), needs=_shown()))
        for name in SENTINELS
    ]
    real = next(source.judgement for source in sentinels if source.name == REAL)
    methods = [_read_method(name, paths, gate=gate, real=real) for name in params.methods]
    return ReportData(
        methods=methods,
        sentinels=sentinels,
        gate=gate,
        floors=_read_floors(paths.codec_floors),
        codecs=[_read_codec(name, paths) for name in params.codecs],
        real={split: _draw_real(paths, split, samples) for split, samples in methods[0].samples.items()},
        scorer=_read(paths.scorer_metrics, "scorer", needs=("held_out_accuracy", "held_out_pictures")),
        clip={
            **clip,
            "probe": in_reading_order(clip["probe"]),
            "zero_shot": {split: in_reading_order(right) for split, right in named.items()},
        },
        ingested=_in_order_of_splits(_read(paths.ingest_report, "ingest", needs=("splits",))["splits"]),
        others=OtherTrainings.load(paths.seeds, params),
    )


def _read_floors(path: Path) -> list[JudgedSource]:
    def parse(raw: Any) -> list[JudgedSource]:
        judged = {name: Judgement.from_json(found) for name, found in raw.items()}
        for found in judged.values():
            found.require(_shown())
        return [JudgedSource(f"codec {name}", found) for name, found in judged.items()]

    return read_output(path, parse, stage="sentinels")


def _read_method(name: str, paths: Paths, *, gate: Gate, real: Judgement) -> MethodFigures:
    stage, folder = f"evaluate@{name}", paths.samples(name)
    judgement = Judgement.load(paths.metrics(name), needs=(*_shown(), "cost"))
    return MethodFigures(
        name=name,
        judgement=judgement,
        samples={
            split: JudgedSamples(
                _read(folder / f"{file}.json", stage), _read_picture(folder / f"{file}.png", stage)
            )
            for split, file in ((split, split.replace("/", "-")) for split in judgement.reported)
        },
        closest_pairs=_read_picture(folder / "memorisation.png", stage),
        worst=(worst := _read(folder / "worst.json", stage)),
        worst_sheet=_read_picture(folder / "worst.png", stage) if worst else None,
        ledger=_read(paths.selected(name) / LEDGER, f"select@{name}", needs=("own", "shared", "selection")),
        withheld=gate.withheld | better_than_real(judgement, real),
        selection=Selection.load(paths.selection(name)),
    )


def _shown() -> list[str]:
    """What the page says of every source."""
    return [
        "test/alignment/all",
        "memorisation/copy_rate",
        "memorisation/nearer",
        *(f"test/{m.name}" for m in of_images() if not m.optional),
    ]


def _read_codec(name: str, paths: Paths) -> CodecFigures:
    stage, pictures = f"codec@{name}", paths.codec_pictures(name)
    return CodecFigures(
        name=name,
        test=_read(paths.codec_metrics(name), stage, needs=("test",))["test"],
        curve=read_output(
            pictures / "rate_distortion.json", lambda raw: [RatePoint(**row) for row in raw], stage=stage
        ),
        reconstructions=_read_picture(pictures / "reconstructions.png", stage),
    )


def _draw_real(paths: Paths, split: str, samples: JudgedSamples) -> InlineImage:
    """The real pictures of a split's first prompts, laid out as a method's sheet but not enlarged."""
    wanted = samples.ids[: samples.sheet.rows * SHEET_COLUMNS]
    table = read_tables(paths.interim, [split.partition("/")[0]], columns=["id", "image"])
    encoded = {row["id"]: row["image"]["bytes"] for row in table.to_pylist()}
    if absent := [row for row in wanted if row not in encoded]:
        raise SalonError(
            f"{paths.interim} holds no row {absent[0]} of {split}, which the methods were judged on: run "
            "`dvc repro --force` on their evaluate stages"
        )
    pictures = [Image.open(io.BytesIO(encoded[row])).convert("RGB") for row in wanted]
    step = pictures[0].width + SHEET_GAP
    rows = -(-len(pictures) // SHEET_COLUMNS)
    sheet = Image.new("RGB", (SHEET_COLUMNS * step - SHEET_GAP, rows * step - SHEET_GAP), (255, 255, 255))
    for place, picture in enumerate(pictures):
        sheet.paste(picture, (place % SHEET_COLUMNS * step, place // SHEET_COLUMNS * step))
    stream = io.BytesIO()
    sheet.save(stream, format="png")
    return InlineImage(base64.b64encode(stream.getvalue()).decode("ascii"), *sheet.size)


def _read_picture(path: Path, stage: str) -> InlineImage:
    try:
        data = path.read_bytes()
        size = Image.open(io.BytesIO(data)).size
    except FileNotFoundError:
        raise SalonError(f"{path} does not exist: run `dvc repro {stage}`") from None
    except OSError as error:
        raise SalonError(f"{path} is not a picture ({error}): run `dvc repro --force {stage}`") from None
    return InlineImage(base64.b64encode(data).decode("ascii"), *size)


def _in_order_of_splits(by_split: Mapping[str, T]) -> dict[str, T]:
    return {split: by_split[split] for split in SPLITS if split in by_split}


def _read(path: Path, stage: str, *, needs: Sequence[str] = ()) -> Any:
    return read_output(
        path, lambda raw: raw | {key: raw[key] for key in needs} if needs else raw, stage=stage
    )
