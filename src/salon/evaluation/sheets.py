"""Sample sheets below `reports/samples`: judged images in one PNG, with what was seen in them beside it."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import UInt8
from torch import Tensor

from salon.files import write_json
from salon.images import image_grid, to_float
from salon.judging.alignment import Judged

COLUMNS = 8
SHEET_IMAGES = 48
WORST_IMAGES = 8  # a row of the sheet
MIN_SIDE = 96  # pixels of an image on a sheet


def empty_folder(folder: Path) -> Path:
    """`folder`, with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def save_sheet(path: Path, images: UInt8[Tensor, "n 3 h w"], *, columns: int = COLUMNS) -> None:
    """Write images row by row, small ones enlarged."""
    zoom = max(1, MIN_SIDE // images.shape[-1])
    image_grid(to_float(images), columns=columns, zoom=zoom).save(path)


def save_samples(stem: Path, judged: Sequence[Judged], images: UInt8[Tensor, "n 3 h w"]) -> None:
    """Write what was seen in every image, and the first images."""
    write_json(stem.with_suffix(".json"), [image.to_json() for image in judged])
    save_sheet(stem.with_suffix(".png"), images[:SHEET_IMAGES])


def save_worst(stem: Path, seen: Mapping[str, tuple[Sequence[Judged], UInt8[Tensor, "n 3 h w"]]]) -> None:
    """Write of all judged images those with the most attributes wrong; no sheet where nothing is."""
    found = [
        (split, image, pixels)
        for split, (judged, images) in seen.items()
        for image, pixels in zip(judged, images, strict=True)
        if not all(image.right.values())
    ]
    worst = sorted(found, key=lambda each: sum(each[1].right.values()) - len(each[1].right))[:WORST_IMAGES]
    write_json(stem.with_suffix(".json"), [{"split": split, **image.to_json()} for split, image, _ in worst])
    if worst:
        save_sheet(stem.with_suffix(".png"), torch.stack([pixels for _, _, pixels in worst]))
