"""Pictures between their two forms, float in [-1, 1] and uint8 in 0..255, and side by side on a sheet."""

import math

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor


def to_float(images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """uint8 in 0..255 to float in [-1, 1]."""
    return images.float().div_(127.5).sub_(1)


def to_uint8(images: Float[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b 3 h w"]:
    """Float in [-1, 1] to uint8 in 0..255; values outside are clamped."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


def image_grid(
    images: Float[Tensor, "b 3 h w"], *, columns: int | None = None, gap: int = 2, zoom: int = 1
) -> Image.Image:
    """Pictures in [-1, 1] side by side, row by row, on white; enlarged `zoom` times without smoothing."""
    pixels = to_uint8(images).cpu().repeat_interleave(zoom, dim=2).repeat_interleave(zoom, dim=3)
    count, _, height, width = pixels.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    sheet = Image.new("RGB", size, color="white")
    for i, picture in enumerate(pixels):
        place = ((i % columns) * (width + gap), (i // columns) * (height + gap))
        sheet.paste(Image.fromarray(picture.permute(1, 2, 0).numpy()), place)
    return sheet
