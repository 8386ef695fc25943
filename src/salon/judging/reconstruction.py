"""What a codec loses: reconstructed pictures against the originals, and against JPEG and WebP."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from salon.codecs import CodecConfig, DiscreteCodec
from salon.codecs.base import Codec
from salon.data.dataset import CaptionedImages
from salon.errors import GateError
from salon.images import image_grid, to_float, to_uint8
from salon.judging.classifier import AttributeScorer, accuracy
from salon.judging.record import RatePoint
from salon.nn.quantizer import perplexity

GRID_COLUMNS, GRID_ROWS = 12, 3  # of originals, each above a row of reconstructions
BATCH = 128  # pictures
RATE_PICTURES = 200  # compared with JPEG and WebP; a sheet of them is one file
MAX_WEBP_SIDE = 16383  # pixels, a limit of the format
QUALITIES = (5, 10, 20, 40, 60, 80, 95)
PEERS: dict[str, dict[str, Any]] = {
    "jpeg": {"format": "jpeg"},
    "jpeg 4:4:4": {"format": "jpeg", "subsampling": 0},  # colours at full resolution
    "webp": {"format": "webp"},
}


def psnr(reconstructed: UInt8[Tensor, "b 3 h w"], images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b"]:
    """Peak signal-to-noise ratio of each picture in dB; an exact copy counts as off by one in one channel."""
    squared = (reconstructed.float() - images.float()).square()
    least = 1 / squared[0].numel()
    return 10 * torch.log10(255**2 / squared.mean(dim=(1, 2, 3)).clamp(min=least))


def bits_per_pixel(codec: DiscreteCodec) -> float:
    """Size of a picture's codes, without entropy coding."""
    return codec.bits_per_code / codec.downsampling**2


@torch.no_grad()
def reconstruct(
    codec: Codec,
    images: UInt8[Tensor, "b 3 h w"],
    *,
    batch: int = BATCH,
    device: torch.device | str = "cpu",
) -> tuple[UInt8[Tensor, "b 3 h w"], Tensor]:
    """Pictures through the codec and back, as a user would see them; and their latents, on its device."""
    latents = torch.cat([codec.encode(to_float(part.to(device))) for part in images.split(batch)])
    decoded = torch.cat([to_uint8(codec.decode(part)).cpu() for part in latents.split(batch)])
    return decoded, latents


def judge_codec(
    codec: DiscreteCodec, data: CaptionedImages, scorer: AttributeScorer | None
) -> dict[str, Any]:
    """PSNR, code use, and the share of pictures whose attributes are still recognised."""
    decoded, codes = reconstruct(codec, data.images)
    metrics: dict[str, Any] = {
        "bits_per_pixel": bits_per_pixel(codec),
        "psnr": psnr(decoded, data.images).mean().item(),
        "codes_used": codes.unique().numel(),
        "perplexity": perplexity(codes, codec.codebook_size),
        "pictures": len(data),
    }
    if scorer is not None:
        metrics["accuracy"] = accuracy(scorer.judge(decoded), data.attributes)
    return metrics


def rate_distortion(codec: DiscreteCodec, images: UInt8[Tensor, "b 3 h w"], *, name: str) -> list[RatePoint]:
    """The codec beside JPEG and WebP at several qualities, once file by file and once as sheets of many.

    On pictures this small a file of JPEG is mostly header; a sheet shares it among many pictures, as a token
    file does.
    """
    images = images[: min(RATE_PICTURES, MAX_WEBP_SIDE // images.shape[-1])]
    decoded, _ = reconstruct(codec, images)
    points = [RatePoint(name, None, bits_per_pixel(codec), psnr(decoded, images).mean().item())]
    for peer, options in PEERS.items():
        for layout, files in ((peer, images.split(1)), (f"{peer} sheet", [images])):
            points += [_point(layout, files, quality=quality, **options) for quality in QUALITIES]
    return points


def _point(name: str, files: Sequence[Tensor], **options: Any) -> RatePoint:
    sizes, ratios = [], []
    for part in files:
        sheet = torch.cat(list(part), dim=2).permute(1, 2, 0).numpy()  # (h, n*w, 3): pictures in a row
        stream = io.BytesIO()
        Image.fromarray(sheet).save(stream, **options)
        sizes.append(8 * stream.tell() / (sheet.shape[0] * sheet.shape[1]))
        back = np.array(Image.open(stream).convert("RGB"))
        decoded = torch.from_numpy(back).permute(2, 0, 1).unflatten(2, (len(part), -1))  # (3, h, n, w)
        ratios.append(psnr(decoded.permute(2, 0, 1, 3), part))
    return RatePoint(name, options["quality"], sum(sizes) / len(sizes), torch.cat(ratios).mean().item())


def reconstruction_grid(codec: DiscreteCodec, images: UInt8[Tensor, "n 3 h w"]) -> Image.Image:
    """Rows of originals, each above the same images through the codec."""
    images = images[: GRID_COLUMNS * GRID_ROWS]
    decoded, _ = reconstruct(codec, images)
    rows = zip(images.split(GRID_COLUMNS), decoded.split(GRID_COLUMNS), strict=True)
    shown = torch.cat([part for pair in rows for part in pair])
    return image_grid(to_float(shown), columns=GRID_COLUMNS, zoom=max(1, 128 // images.shape[-1]))


def gate(config: CodecConfig, metrics: Mapping[str, Any], *, name: str) -> None:
    """Refuse a codec whose reconstructions lose what matters.

    Raises:
        GateError: an attribute or the PSNR is below what `config` asks for.
    """
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
