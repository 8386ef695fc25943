"""DALL-E: a GPT writes a picture as a sequence of codes after its caption (Ramesh 2021).

p(codes | caption) = prod_t p(code_t | code_<t, caption), eq. 1 without the text's own likelihood; trained by
cross-entropy. Captions are dropped at random for guidance on the logits (Ho 2022; for tokens Gafni 2022,
sec. 3.4). Keys and values of what is written are kept, so that a new code costs one position.

Departures: the caption is not a string of tokens before the picture but the mean of its words
(`salon.towers.cca`): it is the first position, and it is added at all others together with a layout painted
from it. Position t reads code t - 1 and predicts code t. Codes enter and leave through their codebook entries
(`salon.nn.code_prediction`), which halves the steps to a given likelihood.
"""

from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Complex, Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from salon.codecs.base import need_codes
from salon.errors import SalonError
from salon.methods.base import DataShape, FrozenNets, Losses, Method, MethodConfig, Tradeoff
from salon.nn.code_prediction import (
    CaptionGrid,
    CodeMaps,
    as_codes,
    guide,
    gumbel,
)
from salon.nn.guidance import MAX_GUIDANCE_SCALE, check_guidance
from salon.nn.transformer import Transformer, rope_2d
from salon.params import Fraction
from salon.towers.states import TextStates


class DalleConfig(MethodConfig):
    """Settings of the GPT over codes."""

    codec: str = "vqgan"
    """Codec whose codes are written; it must be discrete."""
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
    temperature: float = Field(0.8, gt=0)
    """Divides the logits when drawing a code; lower is cleaner and less varied."""
    guidance_scale: float = Field(1.5, ge=1, le=MAX_GUIDANCE_SCALE)
    """Default strength of guidance; 1 is none."""


class Dalle(Method):
    """GPT over the codec's codes."""

    config_class: ClassVar[type[MethodConfig]] = DalleConfig
    replayable: ClassVar[bool] = True
    config: DalleConfig
    tradeoff: ClassVar[Tradeoff] = "candidates"
    rotation: Complex[Tensor, "n 1 1 half"]

    def __init__(self, config: DalleConfig, shape: DataShape, frozen: FrozenNets) -> None:
        super().__init__(config, shape, frozen)
        codec = need_codes(self.codec, "dalle")
        side = codec.grid_side(shape.image_size)
        self.cells, self.codebook_size = side**2, codec.codebook_size
        self.caption = CaptionGrid(shape.words_width, config.width, self.cells)
        self.code = CodeMaps(codec.codebook, config.width)
        self.transformer = Transformer(width=config.width, layers=config.layers, head_width=config.head_width)
        self.register_buffer("rotation", rope_2d(side, config.head_width), persistent=False)

    @property
    def codebook(self) -> Float[Tensor, "k z"]:
        """The codec's entries."""
        return need_codes(self.codec, "dalle").codebook

    def logits(self, codes: Int[Tensor, "b n"], words: Float[Tensor, "b w"]) -> Float[Tensor, "b n k"]:
        """Logits of every code given those before it."""
        written = F.embedding(codes[:, :-1], self.code.vectors_in(self.codebook))  # (b, n-1, d)
        x = self.caption(words) + F.pad(written, (0, 0, 1, 0))  # nothing is before the first
        h = self.transformer(x, self.rotation, is_causal=True)  # (b, n, d)
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
        """Cross-entropy of every code given those before it, in nats per code."""
        codes = as_codes(prepared)
        words = self.caption.drop(text.words, self.config.caption_dropout, generator)
        loss = F.cross_entropy(self.logits(codes, words).flatten(0, 1).float(), codes.flatten())
        return Losses(total=loss, terms={"nll": loss.detach()})

    def generate(
        self,
        text: TextStates,
        *,
        generators: Sequence[torch.Generator],
        guidance_scale: float | None,
        num_inference_steps: int | None,
    ) -> Float[Tensor, "b 3 h w"]:
        """Write the codes one after the other, each drawn from the guided softmax."""
        scale = check_guidance(self.config.guidance_scale if guidance_scale is None else guidance_scale)
        if num_inference_steps not in (None, self.cells):
            raise SalonError(
                f"num_inference_steps {num_inference_steps}: dalle writes a picture in exactly {self.cells} "
                "steps; leave it out"
            )
        caption = self.caption.with_null(text.words, scale)  # (b or 2b, n, d)
        noise = gumbel((self.cells, self.codebook_size), generators, device=caption.device)
        cache = self.transformer.new_cache(len(caption), self.cells, like=caption)
        codes = torch.empty(len(text), self.cells, dtype=torch.long, device=caption.device)
        vectors_in, vectors_out = self.code.vectors_in(self.codebook), self.code.vectors_out(self.codebook)
        x = caption[:, :1]
        for t in range(self.cells):
            h = self.transformer(x, self.rotation[t : t + 1], cache=cache, start=t)  # (b or 2b, 1, d)
            logits = guide(F.linear(h[:, 0], vectors_out, self.code.bias_out), scale)
            codes[:, t] = (logits / self.config.temperature + noise[:, t]).argmax(dim=1)
            if t + 1 < self.cells:
                written = F.embedding(codes[:, t : t + 1], vectors_in)  # (b, 1, d)
                x = caption[:, t + 1 : t + 2] + written.repeat(len(caption) // len(codes), 1, 1)
        return self.codec.decode(codes).clamp(-1, 1)
