"""VQ-VAE with a masked-token prior: all codes of a picture at once, in a few passes.

MaskGIT (Chang 2022): a share cos(pi u / 2), u uniform, of a picture's codes is masked, and a bidirectional
transformer predicts them from the rest (eq. 1); captions condition it as in Muse (Chang 2023). Sampling
begins with everything masked. Pass i of S draws all masked codes and masks again the n cos(pi i / 2S) least
certain (sec. 3.2), by log p + tau (1 - i / S) g with Gumbel noise g. Guidance is on the logits (Muse,
sec. 2.7), and in the later passes alone, which keep most of the codes: Muse has it grow from none, and an
interval that begins late (Kynkaanniemi 2024, who ends it early, too) saves a network pass before it.

Departures: codes are drawn at temperature 0.6 (MaskGIT at 1), which makes pictures more like real ones and
costs a twentieth of the variety within a caption against 0.8. The mean of the caption's words
(`salon.towers.cca`) is added at every cell together with a layout painted from it, in place of
cross-attention. Codes enter and leave through their codebook entries (`salon.nn.code_prediction`).
"""

import math
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from salon.methods.base import DataShape, FrozenNets, MethodConfig, SampleOptions
from salon.methods.token_base import TokenConfig, TokenMethod
from salon.nn.code_prediction import draw, guide, gumbel
from salon.nn.distributed import weight
from salon.nn.noise import batch_noise
from salon.nn.products import linear
from salon.nn.trainable import Losses
from salon.towers.states import Batch, TextStates

KNOWN = -100  # in place of a code that need not be predicted


class MaskedPriorConfig(TokenConfig):
    """Settings of the masked-token prior."""

    codec: str = "vqvae"
    """Codec whose codes are predicted; it must be discrete."""
    choice_temperature: float = Field(1.0, ge=0)
    """tau: randomness in which codes are kept; 0 keeps the most certain, which makes pictures more alike."""
    num_inference_steps: int = Field(8, ge=1)
    """Default number of passes; at most one per code."""
    guidance_start: float = Field(0.625, ge=0, lt=1)
    """Share of the passes that are not guided, the first ones. 0 guides all: 16 forwards, not 11, in 8."""


class MaskedPrior(TokenMethod):
    """Masked-token transformer over the codec's codes."""

    config_class: ClassVar[type[MethodConfig]] = MaskedPriorConfig
    extra_codes: ClassVar[int] = 1
    search_space: ClassVar[tuple[str, ...]] = (*TokenMethod.search_space, "num_inference_steps")
    config: MaskedPriorConfig

    def __init__(self, config: MaskedPriorConfig, shape: DataShape, frozen: FrozenNets) -> None:
        super().__init__(config, shape, frozen)
        self.mask_code = self.codebook_size  # one more than the codes

    @property
    def steps_range(self) -> tuple[int, int]:
        """At most one pass per code."""
        return 1, self.cells

    def hidden(
        self,
        codes: Int[Tensor, "b n"],
        caption: Float[Tensor, "b n d"],
        vectors_in: Float[Tensor, "k_extra d"],
        wanted: Int[Tensor, "b m"] | None = None,
    ) -> Tensor:
        """What the transformer makes of the known codes: (b, n, d), or (b, m, d) at the `wanted` cells."""
        return self.transformer(F.embedding(codes, vectors_in) + caption, self.rotation, wanted=wanted)

    def logits(
        self, hidden: Float[Tensor, "... d"], vectors_out: Float[Tensor, "k d"]
    ) -> Float[Tensor, "... k"]:
        """Logits of every code."""
        return linear(hidden, vectors_out, self.code.bias_out)

    def losses(self, batch: Batch, *, objective: str, generator: torch.Generator) -> Losses:
        """Cross-entropy of the masked codes, in nats per code."""
        codes = batch.precomputed
        assert codes is not None
        masked = random_mask(codes.shape, generator, device=codes.device)
        caption = self.caption(self.caption.drop(batch.text.concept, self.config.caption_dropout, generator))
        vectors_in, vectors_out = self.code.vectors_in(self.codebook), self.code.vectors_out(self.codebook)
        hidden = self.hidden(codes.masked_fill(masked, self.mask_code), caption, vectors_in)
        # of the known cells too: picking out the others would have a GPU wait for their number
        logits = self.logits(hidden, vectors_out)
        targets = codes.masked_fill(~masked, KNOWN)
        nll = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=KNOWN)
        loss = nll * weight(masked.sum())
        return Losses(total=loss, terms={"nll": loss.detach()})

    def _sample(self, text: TextStates, options: SampleOptions) -> Float[Tensor, "b 3 h w"]:
        """Draw all masked codes and mask the least certain again, until none is."""
        config, b = self.config, len(text)
        generators, scale, steps = options
        captions = self.caption.with_null(text.concept, scale)  # (b or 2b, n, d)
        vectors_in, vectors_out = self.code.vectors_in(self.codebook), self.code.vectors_out(self.codebook)
        codes = torch.full((b, self.cells), self.mask_code, device=captions.device)
        masked = torch.arange(self.cells, device=captions.device).expand(b, -1)  # (b, m): the cells to draw
        for i in range(1, steps + 1):
            scale_now = scale if i / steps > config.guidance_start else 1.0
            times = 1 if scale_now == 1 else 2
            both = codes.repeat(times, 1)
            hidden = self.hidden(both, captions[: len(both)], vectors_in, masked.repeat(times, 1))
            logits = guide(self.logits(hidden, vectors_out), scale_now) / config.temperature  # (b, m, k)
            drawn, certainty = draw(logits, generators)
            codes = codes.scatter(1, masked, drawn)
            if i < steps:
                tau = config.choice_temperature * (1 - i / steps)
                noise = gumbel((masked.shape[1],), generators, device=certainty.device)
                certainty = certainty + tau * noise
                again = certainty.topk(num_masked(i / steps, self.cells), largest=False).indices
                masked = masked.gather(1, again.sort(dim=1).values)  # what is kept once is kept
                codes = codes.scatter(1, masked, self.mask_code)
        return self.codec.decode(codes).clamp(-1, 1)


def num_masked(progress: float, cells: int) -> int:
    """Codes that are masked after this share of the passes: the cosine schedule (Chang 2022, sec. 3.3)."""
    return max(1, math.floor(cells * math.cos(math.pi / 2 * progress)))


def random_mask(
    shape: torch.Size, generator: torch.Generator, *, device: torch.device
) -> Bool[Tensor, "b n"]:
    """At least one cell of each row; how many follows the cosine schedule at a uniform progress."""
    b, n = shape
    progress = batch_noise(b, 1, generator=generator, device=device, draw=torch.rand)
    count = (n * torch.cos(math.pi / 2 * progress)).ceil().clamp(min=1)
    order = batch_noise(b, n, generator=generator, device=device, draw=torch.rand)
    return order.argsort(dim=1).argsort(dim=1) < count
