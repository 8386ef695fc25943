"""Train a codec on the training pictures, and refuse it when its reconstructions lose what matters."""

import shutil
from dataclasses import asdict
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from salon.codecs import CodecConfig, DiscreteCodec, load_codec, read_codec_config
from salon.data.dataset import load_split
from salon.devices import single_device
from salon.errors import GateError
from salon.files import read_json, write_json
from salon.images import image_grid, to_float
from salon.judging.classifier import AttributeScorer
from salon.judging.reconstruction import judge_codec, rate_distortion, reconstruct
from salon.params import Params
from salon.paths import SPLITS, Paths
from salon.tracking import runs
from salon.training.codec import train_codec

LEDGER = "training.json"
GRID_COLUMNS = 12
GRID_ROWS = 3  # each one of originals above one of reconstructions


def run(params: Params, paths: Paths, name: str) -> None:
    """Write `models/codecs/<name>/`, its metrics and its pictures, and an MLflow run.

    Raises:
        SalonError: bad settings or missing inputs.
        GateError: too little of the held-out pictures survives the codec.
    """
    raw = params.codec(name)
    family, config = read_codec_config(name, raw)
    splits = {split: load_split(paths.interim, split) for split in SPLITS}
    has_attributes = bool(splits["val"].attributes[0])
    scorer = AttributeScorer.from_pretrained(paths.scorer) if has_attributes else None

    start = load_codec(paths.codec(config.start))
    if isinstance(start, DiscreteCodec):
        config = config.following(start.config)
    torch.manual_seed(params.seed)
    codec = family(config)
    codec.start_from(start)
    store = runs.open_store(params, paths)
    run_id = runs.find_or_start_run(store, name=f"codec-{name}", stage="codec", tags={"salon.codec": name})
    runs.log_params(
        store, run_id, runs.flatten({"seed": params.seed, "codec": config.model_dump(mode="json")})
    )
    runs.log_dataset(store, run_id, paths)
    try:
        cost = train_codec(
            codec.task(),
            splits["train"].images,
            seed=params.seed,
            name=f"codec {name}",
            log=lambda metrics, step: runs.log_metrics(store, run_id, metrics, step=step),
            log_every_steps=params.training.log_every_steps,
            device=single_device(params.training),
        )
        metrics = {
            split: judge_codec(codec, splits[split], scorer)
            for split in ("val", "test", "novel")
            if len(splits[split])
        }
        write_json(paths.codec_metrics(name), metrics | {"cost": asdict(cost)})
        grid = _reconstructions(codec, splits["test"].images)
        runs.log_grid(store, run_id, "reconstructions", grid, step=cost.steps)
        pictures = paths.codec_pictures(name)
        shutil.rmtree(pictures, ignore_errors=True)
        pictures.mkdir(parents=True)
        grid.save(pictures / "reconstructions.png")
        curve = rate_distortion(codec, splits["test"].images, name=name)
        write_json(pictures / "rate_distortion.json", [asdict(point) for point in curve])
        runs.log_metrics(
            store,
            run_id,
            {f"test/{key}": value for key, value in runs.flatten(metrics["test"]).items()},
            step=cost.steps,
        )
        _gate(config, metrics["val"], name=name)
    except BaseException:
        runs.finish_run(store, run_id, "FAILED")
        raise
    folder = paths.codec(name)
    temporary = folder.with_name(f".{name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    codec.save_pretrained(temporary)
    ledger = {"run_id": run_id, "own": asdict(cost), "shared": _costs_so_far(paths, config.start)}
    write_json(temporary / LEDGER, ledger)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    runs.finish_run(store, run_id, "FINISHED")
    print(f"codec {name}: {metrics['val']}; weights in {folder}")


def _reconstructions(codec: DiscreteCodec, images: Tensor) -> Image:
    """Rows of originals, each above the same pictures through the codec."""
    images = images[: GRID_COLUMNS * GRID_ROWS]
    decoded, _ = reconstruct(codec, images)
    rows = zip(images.split(GRID_COLUMNS), decoded.split(GRID_COLUMNS), strict=True)
    pictures = torch.cat([part for pair in rows for part in pair])
    return image_grid(to_float(pictures), columns=GRID_COLUMNS, zoom=max(1, 128 // images.shape[-1]))


def _gate(config: CodecConfig, metrics: dict[str, Any], *, name: str) -> None:
    weak = [
        f"{attribute} is recognised in {metrics['accuracy'][attribute]:.1%} of reconstructed val pictures, "
        f"less than min_accuracy.{attribute} = {least:.1%}"
        for attribute, least in config.min_accuracy.items()
        if attribute in metrics.get("accuracy", {}) and metrics["accuracy"][attribute] < least
    ]
    if metrics["psnr"] < config.min_psnr:
        weak.append(f"PSNR is {metrics['psnr']:.1f} dB, less than min_psnr = {config.min_psnr:.1f} dB")
    if weak:
        raise GateError(
            f"codec {name!r}: {'; '.join(weak)}. Raise codecs.{name}.max_steps or codebook_size: "
            "what the codec loses no method can draw"
        )


def _costs_so_far(paths: Paths, start: str) -> dict[str, dict[str, Any]]:
    """What the codecs cost from which this one started, the first of all included."""
    ledger = paths.codec(start) / LEDGER
    if not ledger.is_file():  # `pixels` is not trained
        return {}
    spent = read_json(ledger)
    return spent["shared"] | {f"codec-{start}": spent["own"]}
