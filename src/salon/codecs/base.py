"""What a codec is, how it is saved, and what training one means.

A picture becomes a latent and comes back. A codec with weights lives in a folder of its own:
`model.safetensors` and `config.json`.
"""

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from salon.errors import SalonError
from salon.families import family_of
from salon.nn.trainable import Trainable
from salon.params import Fraction, Section
from salon.weights import save_network


class CodecConfig(Section):
    """Settings that every codec has. Each family adds its own."""

    family: str = ""
    """Module of `salon.codecs`; the codec's name when empty."""
    start: str = "pixels"
    """Codec whose weights it starts from; `pixels` has none."""
    max_steps: int = Field(3600, ge=1)
    """Training steps."""
    batch_size: int = Field(8, ge=1)
    """Pictures per step: many small updates beat few large ones."""
    lr: float = Field(2e-3, gt=0)
    """Peak learning rate."""
    min_psnr: float = Field(0.0, ge=0)
    """Gate: mean PSNR (dB) of reconstructed `val` pictures."""
    min_accuracy: dict[str, Fraction] = Field({"concept": 0.95, "style": 0.9})
    """Gate: share of reconstructed `val` pictures whose attribute the scorer still recognises, per attribute.
    Attributes that the pictures do not have are passed over."""

    network_fields: ClassVar[tuple[str, ...]] = ()
    """Settings that decide the shapes of the weights."""

    def following(self, start: "CodecConfig") -> Self:
        """These settings, with the networks of `start` wherever nothing else was asked for."""
        inherited = set(self.network_fields) & set(start.network_fields) - self.model_fields_set
        return self.model_copy(update={name: getattr(start, name) for name in inherited})


class Codec(nn.Module, ABC):
    """Image <-> latent. Pictures are float in [-1, 1]; frozen while a method trains on its latents."""

    @abstractmethod
    def latent_shape(self, image_size: int) -> tuple[int, ...]:
        """Shape of one latent of a square picture, without the batch."""

    @abstractmethod
    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Tensor:
        """Latents: float (b, c, h', w') for continuous codecs, integer (b, n) for discrete ones."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Float[Tensor, "b 3 h w"]:
        """Pictures in [-1, 1] (decoders may overshoot a little; the edge to uint8 clamps)."""


class DiscreteCodec(Codec):
    """A codec whose latents are codes on a square grid, row by row."""

    config_class: ClassVar[type[CodecConfig]]

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config

    @property
    @abstractmethod
    def codebook_size(self) -> int:
        """How many different codes there are."""

    @property
    @abstractmethod
    def codebook(self) -> Float[Tensor, "k d"]:
        """The vector that each code stands for."""

    @property
    @abstractmethod
    def downsampling(self) -> int:
        """Pixels per code, along each side."""

    def grid_side(self, image_size: int) -> int:
        """Codes along each side of a square picture."""
        return image_size // self.downsampling

    def latent_shape(self, image_size: int) -> tuple[int, ...]:
        return (self.grid_side(image_size) ** 2,)

    @property
    def bits_per_code(self) -> int:
        """Bits that one code takes without entropy coding."""
        return max(1, math.ceil(math.log2(self.codebook_size)))

    @abstractmethod
    def encode_grid(self, images: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b rows columns"]:
        """Codes in 0 .. codebook_size - 1, as they lie in the picture, square or not."""

    @abstractmethod
    def decode_grid(self, codes: Int[Tensor, "b rows columns"]) -> Float[Tensor, "b 3 h w"]:
        """Pictures of codes."""

    def encode(self, images: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b n"]:
        return self.encode_grid(images).flatten(1)

    def decode(self, latents: Int[Tensor, "b n"]) -> Float[Tensor, "b 3 h w"]:
        side = math.isqrt(latents.shape[1])
        return self.decode_grid(latents.unflatten(1, (side, side)))

    @abstractmethod
    def start_from(self, other: Codec) -> None:
        """Take over another codec's weights.

        Raises:
            SalonError: the other codec's networks have another shape.
        """

    @abstractmethod
    def task(self) -> "CodecTask":
        """What is trained to make this codec."""

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json`."""
        config = self.config.model_dump(mode="json")
        save_network(folder, self, {"family": family_of(type(self)), "config": config})


def need_codes(codec: Codec, family: str) -> DiscreteCodec:
    """`codec`, if it gives codes.

    Raises:
        SalonError: its latents are no codes.
    """
    if not isinstance(codec, DiscreteCodec):
        raise SalonError(f"{family} predicts codes, and this codec has none: set codec to vqvae or vqgan")
    return codec


class CodecTask(Trainable):
    """A codec, and what helps to train it and is thrown away afterwards. Its batches are images."""

    codec: DiscreteCodec

    def __init__(self) -> None:
        super().__init__()
        self.progress = 1.0
        """Share of the training that is done."""
        self.codes: Int[Tensor, "b n"] | None = None
        """Of the last batch, once the codec quantises."""

    def before_step(self, progress: float) -> None:
        self.progress = progress

    def codebook_due(self, progress: float) -> bool:
        """Whether the codebook has to be set before a step at this share of the training."""
        return False

    def initialize_codebook(self, images: Float[Tensor, "b 3 h w"], generator: torch.Generator) -> None:
        """Set the codebook from a sample of pictures."""
