"""A workspace whose stages have run, with invented figures, for the tests of the comparison page."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from salon.files import read_json, write_json
from salon.judging.metrics import LIKENESS
from salon.judging.sentinel_rules import SENTINELS
from salon.params import Params, load_params
from salon.paths import Paths
from salon.report.figures import SHEET_COLUMNS, SHEET_GAP

REPOSITORY = Path(__file__).parents[2]
SPLITS = ("val", "test", "novel-concept_x_background", "novel-concept_x_style")
TILE = 96
PICTURES = 30  # of each split
GFLOP = 10**9


def make_workspace(root: Path, **all_right: float) -> tuple[Params, Paths]:
    """Params and paths with the given methods; all share the verdicts of `samples`, whatever their figure."""
    paths = Paths(root)
    default = load_params(REPOSITORY / "params.yaml")
    codecs = {"vqvae": default.codecs["vqvae"]}
    params = default.model_copy(update={"methods": {name: {} for name in all_right}, "codecs": codecs})
    write_shared(paths)
    for number, (name, value) in enumerate(all_right.items()):
        write_method(paths, name, all_right=value, flops=33_000 * GFLOP * (1 + 0.01 * number))
    return params, paths


def estimate(value: float, *, n: int = 200) -> dict[str, float]:
    return {"value": value, "low": round(value - 0.0213, 4), "high": round(min(1, value + 0.0187), 4), "n": n}


def figures(all_right: float) -> dict[str, Any]:
    alignment = {
        "concept": estimate(min(1, all_right + 0.0131)),
        "style": estimate(min(1, all_right + 0.0057)),
        "background": estimate(min(1, all_right + 0.0222)),
        "all": estimate(all_right),
    }
    return {
        "alignment": alignment,
        "r_precision": estimate(round(all_right - 0.0117, 4)),
        "alignment_en": {name: {**value, "n": 90} for name, value in alignment.items()},
        "alignment_ru": {name: {**value, "n": 110} for name, value in alignment.items()},
        "phrasing": {
            phrasing: {
                name: estimate(round(value["value"] - lost, 4), n=50) for name, value in alignment.items()
            }
            for phrasing, lost in (("en-1", 0.0003), ("en-2", 0.0444), ("ru-1", 0.0666))
        },
    }


def fidelity(lost: float) -> dict[str, Any]:
    values = {
        "precision": 0.8123,
        "recall": 0.7345,
        "density": 0.9135,
        "coverage": 0.8567,
        "texture": lost + 0.2,
        "diversity": 0.6442,
        "factor_diversity": 0.5123,
    }
    likeness = dict.fromkeys(LIKENESS, estimate(lost))
    return likeness | {name: estimate(value) for name, value in values.items()}


def memorisation(rate: float = 0.0, *, low: float = 0.0) -> dict[str, Any]:
    return {
        "copy_rate": {"value": rate, "low": low, "high": rate + 0.0131, "n": 500},
        "nearer": {"value": 0.5123, "low": 0.4682, "high": 0.5561, "n": 500},
        "power": 0.9934,
        "detectable_rate": 0.0153,
    }


def trial(number: int, settings: dict[str, float], lost: float, **figures: Any) -> dict[str, Any]:
    return {
        "number": number,
        "settings": settings,
        "likeness": estimate(lost, n=96),
        "alignment": estimate(0.9345, n=96),
        "diversity": estimate(0.5432, n=48),
        "picture_flops": 1_420_000_000,
        "draw_ms_p50": 12.34,
        "pictures": 144,
        "seconds": 3.21,
        "verdict": "taken",
        **figures,
    }


def write_selection(path: Path) -> None:
    """Three trials, the second of which was taken."""
    trials = [
        trial(0, {"guidance_scale": 2.0, "num_inference_steps": 7}, 0.3123, verdict="a picture costs more"),
        trial(1, {"guidance_scale": 2.5, "num_inference_steps": 5}, 0.2876, draw_ms_p50=8.76),
        trial(
            2,
            {"guidance_scale": 4.5, "num_inference_steps": 12},
            0.2234,
            diversity=estimate(0.3210, n=48),
            picture_flops=2_840_000_000,
            draw_ms_p50=23.45,
            verdict="diversity 0.32 is below 0.49",
        ),
    ]
    reason = "trial 1: of 2 of 3 trials it lies nearest to real pictures"
    settings = trials[1]["settings"]
    write_json(path, {"chosen": 1, "settings": settings, "reason": reason, "cost": {}, "trials": trials})


def samples(count: int = PICTURES, *, wrong: Sequence[int] = ()) -> list[dict[str, Any]]:
    """Verdicts on the prompts of one split: every sixth concept is missed, all in the rows of `wrong`."""
    rows = []
    for i in range(count):
        wanted = {"concept": ("owl", "crown")[i % 2], "style": f"style {i}", "background": "blue"}
        seen = {**wanted, "concept": "penguin" if i % 6 == 0 else wanted["concept"]}
        if i in wrong:
            seen |= {"concept": "rocket", "style": "twemoji", "background": "pink"}
        right = {name: seen[name] == value for name, value in wanted.items()}
        rows.append(
            {
                "id": f"{i:016x}",
                "caption": f"caption {i}",
                "lang": ("en", "ru")[i % 2],
                "wanted": wanted,
                "seen": seen,
                "right": right,
                "all": all(right.values()),
            }
        )
    return rows


def draw_sheet(path: Path, count: int) -> None:
    rows = -(-count // SHEET_COLUMNS)
    size = (SHEET_COLUMNS * (TILE + SHEET_GAP) - SHEET_GAP, rows * (TILE + SHEET_GAP) - SHEET_GAP)
    Image.new("RGB", size, (90, 140, 200)).save(path)


def real_colour(row: int) -> tuple[int, int, int]:
    """What the real picture of one prompt shows."""
    return (5 * row, 255 - 5 * row, 128)


def write_method(paths: Paths, name: str, *, all_right: float, flops: float) -> None:
    metrics = {
        "val": figures(all_right),
        "test": figures(all_right) | fidelity(0.0543),
        "novel": {
            "concept_x_background": figures(all_right - 0.0101),
            "concept_x_style": figures(0.1834),
        },
        "memorisation": memorisation(),
        "cost": {
            "train_flops": flops,
            "train_minutes": 5.437,
            "parameters": 1234567,
            "training_parameters": 765432,
            "images_seen": 98765,
            "peak_memory_gb": 1.234,
            "selection_flops": 2_112 * GFLOP,
            "selection_minutes": 0.161,
            "picture_flops": 1_420_000_000,
            "latency_ms_p50": 31.41,
            "latency_ms_p95": 44.02,
            "images_per_second_b16": 77.7,
            "device": "cpu",
            "cpu_cores": 2,
        },
    }
    write_json(paths.metrics(name), metrics)
    write_selection(paths.selection(name))
    own = {
        "steps": 4321,
        "train_flops": flops - 5_400 * GFLOP,
        "train_minutes": 4.222,
        "images_seen": 98765,
        "parameters": 1234567,
        "peak_memory_gb": 1.234,
        "precision": "32-true",
        "device": "cpu",
    }
    shared = {"clip": {"train_flops": 5_400 * GFLOP, "train_minutes": 1.215}}
    selection = {"trials": 3, "pictures": 432, "flops": 2_112 * GFLOP, "minutes": 0.161}
    ledger = {"own": own, "shared": shared, "selection": selection}
    write_json(paths.selected(name) / "training.json", ledger)
    folder = paths.samples(name)
    for split in SPLITS:
        write_json(folder / f"{split}.json", samples())
        draw_sheet(folder / f"{split}.png", PICTURES)
    Image.new("RGB", (782, 194), (200, 140, 90)).save(folder / "memorisation.png")
    write_worst(paths, name, [{**samples(9, wrong=[7, 8])[place], "split": "test"} for place in (7, 8, 0)])


def forget_attributes(paths: Paths, *methods: str) -> None:
    """Turn all figures and verdicts into those of rows without attributes, judged by their captions."""
    for name in (*methods, *(f"sentinel-{sentinel}" for sentinel in SENTINELS)):
        metrics = read_json(paths.metrics(name))
        del metrics["novel"]
        for figures in (metrics[split] for split in ("val", "test") if split in metrics):
            figures.pop("phrasing")
            for key in ("alignment", "alignment_en", "alignment_ru"):
                figures[key] = {"caption": figures[key]["all"], "all": figures[key]["all"]}
            figures["r_precision"] = figures["alignment"]["all"]
        write_json(paths.metrics(name), metrics)
    for file in (
        paths.samples(name) / f"{part}.json" for name in methods for part in ("test", "val", "worst")
    ):
        rows = read_json(file)
        for row in rows:
            seen = row["caption"] if row["all"] else "another caption"
            row |= {
                "wanted": {"caption": row["caption"]},
                "seen": {"caption": seen},
                "right": {"caption": row["all"]},
            }
        write_json(file, rows)
    judged = read_json(paths.scorer_metrics)
    right = {"test": {"caption": 0.9876, "all": 0.9876}}
    write_json(
        paths.scorer_metrics, judged | {"held_out_accuracy": right, "held_out_r_precision": {"test": 0.9876}}
    )
    towers = {"probe": {}, "probe_trials": 0, "zero_shot": {"val": {}, "novel": {}}}
    write_json(paths.clip_metrics, read_json(paths.clip_metrics) | towers)
    lost = read_json(paths.codec_metrics("vqvae"))
    del lost["test"]["accuracy"]
    write_json(paths.codec_metrics("vqvae"), lost)


def write_worst(paths: Paths, name: str, rows: list[dict[str, Any]]) -> None:
    write_json(paths.samples(name) / "worst.json", rows)
    draw_sheet(paths.samples(name) / "worst.png", SHEET_COLUMNS)


def write_shared(paths: Paths) -> None:
    """Everything that does not belong to one method."""
    right = {"concept": 0.9991, "style": 0.9983, "background": 1.0, "all": 0.9974}
    write_json(
        paths.scorer_metrics,
        {
            "held_out_accuracy": {"test": right, "novel": right},
            "held_out_r_precision": {"test": 0.9876, "novel": 0.9765},
            "held_out_pictures": {"test": 1000, "novel": 618},
            "explained": {"shift_x": 0.9612, "scale": 0.8412},
        },
    )
    write_json(
        paths.clip_metrics,
        {
            "cost": {
                "train_flops": 5_400 * GFLOP,
                "train_minutes": 1.215,
                "images_seen": 28800,
                "parameters": 1198785,
            },
            "probe": {"concept": 0.9944, "style": 0.9877, "background": 1.0},
            "probe_trials": 1800,
            "zero_shot": {"val": {"concept": 0.9711}, "novel": {"concept": 0.9433}},
            "truncated_captions": 0,
        },
    )
    counts = {"train": 24000, "val": 600, "test": 1000, "novel": 1200}
    write_json(paths.ingest_report, {"ingested": 26800, "splits": counts})
    for number, name in enumerate(SENTINELS):
        value = (0.9987, 0.9986, 0.9985, 0.1234, 0.7777, 0.9321, 0.9123, 0.0456, 0.0345)[number]
        write_json(
            paths.metrics(f"sentinel-{name}"),
            {
                "test": figures(value) | fidelity(0.0021 + number),
                "novel": {kind: figures(value) for kind in ("concept_x_background", "concept_x_style")},
                "memorisation": memorisation(number / 20),
            },
        )
    rules = ["test/likeness: real 0.0021 must be below noise 4.0021", "test/recall: real must be above noise"]
    write_json(paths.sentinels, {"passed": True, "broken": "", "rules": rules})
    floor = figures(0.99) | fidelity(0.3)
    write_json(paths.codec_floors, {"vqvae": {"test": floor, "memorisation": memorisation()}})
    write_codec(paths, "vqvae")
    write_pictures(paths)


def write_codec(paths: Paths, name: str) -> None:
    lost = {
        "psnr": 22.5378,
        "bits_per_pixel": 0.5625,
        "codes_used": 498,
        "perplexity": 373.657,
        "pictures": 1000,
        "accuracy": {"concept": 0.9912, "style": 0.9813, "background": 0.9714, "all": 0.9615},
    }
    write_json(paths.codec_metrics(name), {"test": lost})
    points = [(name, None, 0.5625, 22.67), ("jpeg", 5, 5.26, 17.77), ("jpeg", 95, 14.1, 37.6)]
    points += [("jpeg sheet", 5, 0.41, 17.8), ("jpeg sheet", 95, 9.2, 37.5)]
    rows = [
        {"codec": codec, "quality": quality, "bits_per_pixel": bits, "psnr": psnr}
        for codec, quality, bits, psnr in points
    ]
    folder = paths.codec_pictures(name)
    write_json(folder / "rate_distortion.json", rows)
    Image.new("RGB", (1558, 778), (140, 90, 200)).save(folder / "reconstructions.png")


def write_pictures(paths: Paths) -> None:
    """The prompts' own pictures, as the ingest stage leaves them."""
    paths.interim.mkdir(parents=True)
    for split in ("test", "novel"):
        rows = [{"id": f"{i:016x}", "image": {"bytes": _png(real_colour(i)), "path": ""}} for i in range(60)]
        pq.write_table(pa.Table.from_pylist(rows), paths.interim / f"{split}-00000.parquet")


def _png(colour: tuple[int, int, int]) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(stream, format="png")
    return stream.getvalue()
