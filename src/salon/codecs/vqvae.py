"""VQ-VAE: a picture as a grid of codebook entries (van den Oord 2017).

z = E(x) has one vector per block of pixels; each becomes its nearest codebook entry z_q, and x' = D(z_q).
Trained by |x - x'| + |grad x - grad x'| + beta |z - z_q|^2, the gradient passing straight through the
rounding.

Departures: the first quarter trains without rounding, and the codebook then starts as k-means of real
vectors, which spares it the collapse that a random codebook begins with; the vectors are layer-normalised,
so that entries and vectors keep one scale; absolute errors of pixels and of their differences, since
squared ones blur what is thin. Pixels are folded first and the widest layers work on the code grid: cheap
by construction.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from salon.codecs.base import Codec, CodecConfig, CodecTask, DiscreteCodec
from salon.codecs.pixels import PixelCodec
from salon.errors import SalonError
from salon.nn.layers import group_norm, zeroed
from salon.nn.quantizer import Quantized, VectorQuantizer
from salon.nn.trainable import Losses
from salon.params import Fraction


class VqVaeConfig(CodecConfig):
    """Settings of the quantised autoencoder."""

    network_fields: ClassVar[tuple[str, ...]] = (
        "codebook_size",
        "code_width",
        "channels",
        "encoder_blocks",
        "decoder_blocks",
        "patch",
    )

    codebook_size: int = Field(512, ge=2, le=2**16)
    """Entries of the codebook: more draw finer, fewer are easier to predict from text."""
    code_width: int = Field(16, ge=1)
    """Width of an entry."""
    channels: list[int] = Field([32, 64], min_length=1)
    """Width per level; each level halves the grid, and the last one is the code grid."""
    encoder_blocks: int = Field(1, ge=0)
    """Residual blocks per level of the encoder."""
    decoder_blocks: list[int] = Field([1, 2], min_length=1)
    """Residual blocks per level of the decoder, in the order of `channels`."""
    patch: int = Field(2, ge=1)
    """Pixels are folded into channels in patch x patch blocks before the first level."""
    unquantised_fraction: Fraction = 0.25
    """Share of the steps before the codebook is set and used."""
    commitment_weight: float = Field(0.25, ge=0)
    """beta: how strongly vectors are pulled to their entries."""
    gradient_weight: float = Field(1.0, ge=0)
    """Weight of the errors of neighbouring pixels' differences, which keep edges sharp."""
    codebook_decay: Fraction = 0.99
    """Decay per step of the entries' moving averages."""


class VqVae(DiscreteCodec):
    """Encoder, codebook, decoder."""

    config_class: ClassVar[type[CodecConfig]] = VqVaeConfig
    config: VqVaeConfig

    def __init__(self, config: VqVaeConfig) -> None:
        """Networks with random weights.

        Raises:
            SalonError: `decoder_blocks` does not match `channels`.
        """
        super().__init__(config)
        given, needed = len(config.decoder_blocks), len(config.channels)
        if given != needed:
            raise SalonError(
                f"codec: decoder_blocks has {given} entries, channels has {needed}; give one per level"
            )
        channels, folded = config.channels, 3 * config.patch**2
        encoder: list[nn.Module] = [nn.PixelUnshuffle(config.patch)]
        for level, width in enumerate(channels):
            before, stride = (channels[level - 1], 2) if level else (folded, 1)
            encoder.append(nn.Conv2d(before, width, 3, stride=stride, padding=1))
            encoder += [ResBlock(width) for _ in range(config.encoder_blocks)]
        self.encoder = nn.Sequential(*encoder, *_head(channels[-1], config.code_width, kernel=1))
        self.quantizer = VectorQuantizer(config.codebook_size, config.code_width, decay=config.codebook_decay)
        decoder: list[nn.Module] = [nn.Conv2d(config.code_width, channels[-1], 3, padding=1)]
        for level in reversed(range(len(channels))):
            decoder += [ResBlock(channels[level]) for _ in range(config.decoder_blocks[level])]
            if level:  # widening on the coarse grid and unfolding is cheaper than convolving the fine one
                decoder += [nn.Conv2d(channels[level], 4 * channels[level - 1], 1), nn.PixelShuffle(2)]
        decoder += [*_head(channels[0], folded, kernel=3), nn.PixelShuffle(config.patch)]
        self.decoder = nn.Sequential(*decoder)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def codebook_size(self) -> int:
        return self.config.codebook_size

    @property
    def codebook(self) -> Float[Tensor, "k d"]:
        return self.quantizer.codebook

    @property
    def downsampling(self) -> int:
        return self.config.patch * 2 ** (len(self.config.channels) - 1)

    def embed(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b d h/f w/f"]:
        """The vectors before they are quantised: mean 0 and variance 1 each.

        Raises:
            SalonError: the pictures do not divide into codes.
        """
        height, width = images.shape[-2:]
        if width % self.downsampling or height % self.downsampling:
            raise SalonError(
                f"pictures of {width}x{height} pixels do not divide into codes of {self.downsampling} pixels"
            )
        z = self.encoder(images.contiguous(memory_format=torch.channels_last))
        return F.layer_norm(z.permute(0, 2, 3, 1), z.shape[1:2]).permute(0, 3, 1, 2)

    def quantise(
        self, z: Float[Tensor, "b d h w"], generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "b d h w"], Quantized]:
        """The grid of entries nearest to the grid of vectors; gradients pass to the vectors."""
        cells = z.permute(0, 2, 3, 1)  # (b, h, w, d)
        quantized = self.quantizer(cells.flatten(0, 2), generator)
        return quantized.z_q.view(cells.shape).permute(0, 3, 1, 2), quantized

    def encode_grid(self, images: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b rows columns"]:
        z = self.embed(images).permute(0, 2, 3, 1)  # (b, rows, columns, d)
        return self.quantizer.assign(z.flatten(0, 2)).view(z.shape[:3])

    def decode_grid(self, codes: Int[Tensor, "b rows columns"]) -> Float[Tensor, "b 3 h w"]:
        return self.decoder(self.codebook[codes].permute(0, 3, 1, 2))

    def start_from(self, other: Codec) -> None:
        if isinstance(other, PixelCodec):
            return  # no weights: from scratch
        try:
            self.load_state_dict(other.state_dict())
        except RuntimeError:
            raise SalonError(
                f"codec {self.config.start!r} cannot be started from: its networks have another shape; "
                f"leave out {', '.join(self.config.network_fields)} to take over its own"
            ) from None

    def task(self) -> CodecTask:
        return Reconstruction(self)


class Reconstruction(CodecTask):
    """Autoencoding, at first without quantising."""

    def __init__(self, codec: VqVae) -> None:
        super().__init__()
        self.codec: VqVae = codec

    def codebook_due(self, progress: float) -> bool:
        return progress >= self.codec.config.unquantised_fraction

    @torch.no_grad()
    def initialize_codebook(self, images: Float[Tensor, "b 3 h w"], generator: torch.Generator) -> None:
        z = self.codec.embed(images).permute(0, 2, 3, 1)
        self.codec.quantizer.initialise(z.flatten(0, 2), generator)

    def losses(
        self, batch: Float[Tensor, "b 3 h w"], *, objective: str, generator: torch.Generator
    ) -> Losses:
        codec, z = self.codec, self.codec.embed(batch)
        if not self.codebook_due(self.progress):
            error = reconstruction_error(codec.decoder(z), batch, codec.config)
            return Losses(error, {"reconstruction": error.detach()})
        z_q, quantized = codec.quantise(z, generator)
        error = reconstruction_error(codec.decoder(z_q), batch, codec.config)
        self.codes = quantized.codes.view(len(batch), -1)
        terms = {"reconstruction": error.detach(), "commitment": quantized.commitment.detach()}
        return Losses(error + codec.config.commitment_weight * quantized.commitment, terms)


def reconstruction_error(
    reconstructed: Float[Tensor, "b 3 h w"], images: Float[Tensor, "b 3 h w"], config: VqVaeConfig
) -> Float[Tensor, ""]:
    """Mean absolute error of the pixels, and of the differences of neighbours across and down."""
    error = reconstructed - images
    across = (error[..., 1:] - error[..., :-1]).abs().mean()
    down = (error[..., 1:, :] - error[..., :-1, :]).abs().mean()
    return error.abs().mean() + config.gradient_weight * (across + down)


class ResBlock(nn.Module):
    """Two convolutions and a residual connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm_in = group_norm(channels)
        self.conv_in = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm_out = group_norm(channels)
        self.conv_out = zeroed(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        h = self.conv_in(F.silu(self.norm_in(x)))
        return x + self.conv_out(F.silu(self.norm_out(h)))


def _head(before: int, after: int, *, kernel: int) -> Sequence[nn.Module]:
    return group_norm(before), nn.SiLU(), nn.Conv2d(before, after, kernel, padding=kernel // 2)
