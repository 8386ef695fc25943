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
from salon.judging.jury import JudgedImages

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


def save_pairs(path: Path, seen: JudgedImages) -> None:
    """Write generated images above the training images that they are nearest to."""
    pairs = seen.nearest_pairs
    save_sheet(path, pairs, columns=len(pairs) // 2)


def save_worst(stem: Path, seen: Mapping[str, tuple[Sequence[Judged], UInt8[Tensor, "n 3 h w"]]]) -> None:
    """Write of all judged images those with the most attributes wrong; no sheet where nothing is."""
    wrong = [
        (-sum(not right for right in image.right.values()), number, place, split)
        for number, (split, (judged, _)) in enumerate(seen.items())
        for place, image in enumerate(judged)
        if not all(image.right.values())
    ]
    worst = [(seen[split], split, place) for _, _, place, split in sorted(wrong)[:WORST_IMAGES]]
    rows = [{"split": split, **judged[place].to_json()} for (judged, _), split, place in worst]
    write_json(stem.with_suffix(".json"), rows)
    if worst:
        save_sheet(stem.with_suffix(".png"), torch.stack([images[place] for (_, images), _, place in worst]))
