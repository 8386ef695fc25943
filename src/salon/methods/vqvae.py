"""VQ-VAE with a masked-token prior: all codes of a picture at once, in a few passes.

MaskGIT (Chang 2022): a share cos(pi u / 2), u uniform, of a picture's codes is masked, and a bidirectional
transformer predicts them from the rest (eq. 1); captions condition it as in Muse (Chang 2023). Sampling
begins with everything masked. Pass i of S draws all masked codes and masks again the n cos(pi i / 2S) least
certain (sec. 3.2), by log p + tau (1 - i / S) g with Gumbel noise g. Guidance is on the logits (Muse,
sec. 2.7).

Departures: the mean of the caption's words (`salon.text.words`) is added at every cell together with a layout
painted from it, in place of cross-attention. Codes enter and leave through their codebook entries
(`salon.nn.tokens`).
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Bool, Complex, Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from salon.codecs.base import need_codes
from salon.errors import SalonError
from salon.methods.base import DataShape, Frozen, Losses, Method, MethodConfig
from salon.nn.guidance import MAX_GUIDANCE_SCALE, check_guidance
from salon.nn.tokens import (
    CaptionGrid,
    CodeMaps,
    as_codes,
    guide,
    gumbel,
)
from salon.nn.transformer import Transformer, rope_2d
from salon.nn.whole_batch import weight
from salon.params import Fraction
from salon.text.states import TextStates


class VqVaePriorConfig(MethodConfig):
    """Settings of the masked-token prior."""

    codec: str = "vqvae"
    """Codec whose codes are predicted; it must be discrete."""
    batch_size: int = Field(16, ge=1)
    """Pictures per optimiser step, over all devices."""
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
    temperature: float = Field(0.8, gt=0)
    """Divides the logits when drawing codes; lower is cleaner and less varied."""
    choice_temperature: float = Field(4.0, ge=0)
    """tau: randomness in which codes are kept; 0 keeps the most certain, which makes pictures alike."""
    num_inference_steps: int = Field(8, ge=1)
    """Default number of passes; at most one per code."""
    guidance_scale: float = Field(1.5, ge=1, le=MAX_GUIDANCE_SCALE)
    """Default strength of guidance; 1 is none and costs half, from 2 on regular backgrounds smear."""


class VqVaePrior(Method):
    """Masked-token transformer over the codec's codes."""

    config_class: ClassVar[type[MethodConfig]] = VqVaePriorConfig
    config: VqVaePriorConfig
    rotation: Complex[Tensor, "n 1 1 half"]

    def __init__(self, config: VqVaePriorConfig, shape: DataShape, frozen: Frozen) -> None:
        super().__init__(config, shape, frozen)
        codec = need_codes(self.codec, "vqvae")
        side = codec.grid_side(shape.image_size)
        self.cells, self.codebook_size = side**2, codec.codebook_size
        self.mask_code = self.codebook_size  # one more than the codes
        self.caption = CaptionGrid(shape.words_width, config.width, self.cells)
        self.code = CodeMaps(codec.codebook, config.width, extra=1)
        self.transformer = Transformer(width=config.width, layers=config.layers, head_width=config.head_width)
        self.register_buffer("rotation", rope_2d(side, config.head_width), persistent=False)

    @property
    def codebook(self) -> Float[Tensor, "k z"]:
        """The codec's entries."""
        return need_codes(self.codec, "vqvae").codebook

    def logits(
        self,
        codes: Int[Tensor, "b n"],
        caption: Float[Tensor, "b n d"],
        wanted: Bool[Tensor, "b n"] | None = None,
    ) -> Tensor:
        """Logits (b, n, k) of all codes, or (m, k) of those `wanted`, from the ones that are not masked."""
        known = F.embedding(codes, self.code.vectors_in(self.codebook))
        h = self.transformer(known + caption, self.rotation)  # (b, n, d)
        h = h if wanted is None else h[wanted]
        return F.linear(h, self.code.vectors_out(self.codebook), self.code.bias_out)

    def prepare(self, images: Float[Tensor, "b 3 h w"]) -> Int[Tensor, "b n"]:
        """The picture's codes."""
        return self.codec.encode(images)

    def losses(
        self,
        images: Float[Tensor, "b 3 h w"],
        text: TextStates,
        *,
        prepared: Tensor | None,
        objective: str,
        step: int,
        generator: torch.Generator,
    ) -> Losses:
        """Cross-entropy of the masked codes, in nats per code."""
        codes = as_codes(prepared)
        masked = random_mask(codes.shape, generator).to(codes.device)
        caption = self.caption(self.caption.drop(text.words, self.config.caption_dropout, generator))
        logits = self.logits(codes.masked_fill(masked, self.mask_code), caption, masked)
        loss = F.cross_entropy(logits.float(), codes[masked]) * weight(masked.sum())
        return Losses(total=loss, terms={"nll": loss.detach()})

    def generate(
        self,
        text: TextStates,
        *,
        generators: Sequence[torch.Generator],
        guidance_scale: float | None,
        num_inference_steps: int | None,
    ) -> Float[Tensor, "b 3 h w"]:
        """Draw all masked codes and mask the least certain again, until none is."""
        config = self.config
        scale = check_guidance(config.guidance_scale if guidance_scale is None else guidance_scale)
        steps = (
            min(config.num_inference_steps, self.cells)
            if num_inference_steps is None
            else num_inference_steps
        )
        if not 1 <= steps <= self.cells:
            raise SalonError(f"num_inference_steps {steps} is out of range: 1 to {self.cells}")
        caption = self.caption.with_null(text.words, scale)  # (b or 2b, n, d)
        shape = (self.cells, self.codebook_size)
        codes = torch.full((len(text), self.cells), self.mask_code, device=caption.device)
        for i in range(1, steps + 1):
            twice = codes.repeat(len(caption) // len(codes), 1)
            logits = guide(self.logits(twice, caption), scale) / config.temperature  # (b, n, k)
            drawn = (logits + gumbel(shape, generators).to(logits.device)).argmax(dim=2)
            masked = codes == self.mask_code
            codes = torch.where(masked, drawn, codes)
            if i < steps:
                tau = config.choice_temperature * (1 - i / steps)
                certainty = logits.log_softmax(dim=2).gather(2, drawn[:, :, None])[:, :, 0]
                certainty = certainty + tau * gumbel((self.cells,), generators).to(logits.device)
                certainty = certainty.masked_fill(~masked, torch.inf)  # what is kept once is kept
                again = num_masked(i / steps, self.cells)
                codes = codes.scatter(1, certainty.topk(again, largest=False).indices, self.mask_code)
        return self.codec.decode(codes).clamp(-1, 1)


def num_masked(progress: float, cells: int) -> int:
    """Codes that are masked after this share of the passes: the cosine schedule (Chang 2022, sec. 3.3)."""
    return max(1, math.floor(cells * math.cos(math.pi / 2 * progress)))


def random_mask(shape: torch.Size, generator: torch.Generator) -> Bool[Tensor, "b n"]:
    """At least one cell of each row; how many follows the cosine schedule at a uniform progress."""
    b, n = shape
    progress = torch.rand(b, 1, generator=generator, device=generator.device)
    count = (n * torch.cos(math.pi / 2 * progress)).ceil().clamp(min=1)
    order = torch.rand(b, n, generator=generator, device=generator.device).argsort(dim=1).argsort(dim=1)
    return order < count
