"""What the methods that predict a codec's codes have in common: settings, and a transformer over the grid.

The mean of the caption's words (`salon.towers.cca`) is added at every cell together with a layout painted
from it. Codes enter and leave through their codebook entries (`salon.nn.code_prediction`).
"""

from typing import ClassVar

from jaxtyping import Complex, Float, Int
from pydantic import Field
from torch import Tensor

from salon.codecs.base import need_codes
from salon.families import family_of
from salon.methods.base import DataShape, FrozenNets, Method, MethodConfig
from salon.nn.code_prediction import CaptionGrid, CodeMaps
from salon.nn.guidance import MAX_GUIDANCE_SCALE
from salon.nn.transformer import Transformer, rope_2d
from salon.params import Fraction


class TokenConfig(MethodConfig):
    """Settings of a transformer over codes."""

    batch_size: int = Field(16, ge=1)
    """Pictures per optimizer step, over all devices."""
    lr: float = Field(3e-3, gt=0)
    """Peak learning rate; a small network with normalised queries and keys bears a high one."""
    width: int = Field(128, ge=16, multiple_of=16)
    """Width of the residual stream."""
    layers: int = Field(4, ge=1)
    """Transformer blocks."""
    head_width: int = Field(32, ge=4, multiple_of=4)
    """Width of an attention head; it must divide `width`."""
    caption_dropout: Fraction = 0.1
    """Share of captions replaced by the null caption, for classifier-free guidance."""
    temperature: float = Field(0.6, gt=0)
    """Divides the logits when drawing codes; lower is cleaner and less varied."""
    guidance_scale: float = Field(1.5, ge=1, le=MAX_GUIDANCE_SCALE)
    """Default strength of guidance; 1 is none; more than the default raises the KID."""


class TokenMethod(Method):
    """A transformer over the grid of the codec's codes."""

    replayable: ClassVar[bool] = True
    search_space: ClassVar[tuple[str, ...]] = ("temperature", "guidance_scale")
    extra_codes: ClassVar[int] = 0
    """Codes that are read and never predicted."""
    config: TokenConfig
    rotation: Complex[Tensor, "n 1 1 half"]

    def __init__(self, config: TokenConfig, shape: DataShape, frozen: FrozenNets) -> None:
        super().__init__(config, shape, frozen)
        codec = need_codes(self.codec, family_of(type(self)))
        side = codec.grid_side(shape.image_size)
        self.cells, self.codebook_size = side**2, codec.codebook_size
        self.caption = CaptionGrid(shape.concept_width, config.width, self.cells)
        self.code = CodeMaps(codec.codebook, config.width, extra=self.extra_codes)
        self.transformer = Transformer(width=config.width, layers=config.layers, head_width=config.head_width)
        self.register_buffer("rotation", rope_2d(side, config.head_width), persistent=False)

    @property
    def codebook(self) -> Float[Tensor, "k z"]:
        """The codec's entries."""
        return need_codes(self.codec, family_of(type(self))).codebook

    def precompute(self, images: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b n"]:
        """The picture's codes."""
        return self.codec.encode(images)
