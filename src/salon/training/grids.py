"""Sample grids: what a training has learned so far, as one picture."""

import math

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from salon.data.loader import to_uint8


def image_grid(
    images: Float[Tensor, "b 3 h w"], *, columns: int | None = None, gap: int = 2, zoom: int = 1
) -> Image.Image:
    """Pictures in [-1, 1] side by side, row by row, on white; enlarged `zoom` times without smoothing."""
    pixels = to_uint8(images).cpu().repeat_interleave(zoom, dim=2).repeat_interleave(zoom, dim=3)
    count, _, height, width = pixels.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    sheet = Image.new(
        "RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), color=(255, 255, 255)
    )
    for i, picture in enumerate(pixels):
        place = ((i % columns) * (width + gap), (i // columns) * (height + gap))
        sheet.paste(Image.fromarray(picture.permute(1, 2, 0).numpy()), place)
    return sheet


def seeded_generators(seed: int, count: int, *, first: int = 0) -> list[torch.Generator]:
    """One generator per picture, so that picture i is the same whatever batch it is sampled in.

    On the CPU whatever the device, so that a seed gives the same noise everywhere.
    """
    return [torch.Generator().manual_seed(seed * 1_000_003 + i) for i in range(first, first + count)]
