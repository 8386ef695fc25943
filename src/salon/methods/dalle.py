"""DALL-E: a GPT writes a picture as a sequence of codes after its caption (Ramesh 2021).

p(codes | caption) = prod_t p(code_t | code_<t, caption), eq. 1 without the text's own likelihood; trained by
cross-entropy. Captions are dropped at random for guidance on the logits (Ho 2022; for tokens Gafni 2022,
sec. 3.4). Keys and values of what is written are kept, so that a new code costs one position.

Departures: the codec is a VQ-GAN, not a relaxed discrete VAE (sec. 2.1), and every position attends to all
before it (there sparsely). Codes are drawn at temperature 0.6, and no picture is chosen from several unless
`candidates` says so (sec. 2.6: from 512). The caption is not a string of tokens before the picture but the
mean of its words (`salon.towers.cca`): it is the first position, and it is added at all others together with
a layout painted from it. Position t reads code t - 1 and predicts code t. Codes enter and leave through their
codebook entries (`salon.nn.code_prediction`), which halves the steps to a given likelihood.
"""

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from salon.methods.base import MethodConfig, SampleOptions
from salon.methods.token_base import TokenConfig, TokenMethod
from salon.nn.code_prediction import guide, gumbel
from salon.nn.products import linear
from salon.nn.trainable import Losses
from salon.towers.states import Batch, TextStates


class DalleConfig(TokenConfig):
    """Settings of the GPT over codes."""

    codec: str = "vqgan"
    """Codec whose codes are written; it must be discrete."""


class Dalle(TokenMethod):
    """GPT over the codec's codes."""

    config_class: ClassVar[type[MethodConfig]] = DalleConfig
    config: DalleConfig
    search_space: ClassVar[tuple[str, ...]] = (*TokenMethod.search_space, "candidates")

    @property
    def steps_range(self) -> tuple[int, int]:
        """One step per code, no more and no fewer."""
        return self.cells, self.cells

    def logits(self, codes: Int[Tensor, "b n"], concept: Float[Tensor, "b w"]) -> Float[Tensor, "b n k"]:
        """Logits of every code given those before it."""
        written = F.embedding(codes[:, :-1], self.code.vectors_in(self.codebook))  # (b, n-1, d)
        x = self.caption(concept) + F.pad(written, (0, 0, 1, 0))  # nothing is before the first
        h = self.transformer(x, self.rotation, is_causal=True)  # (b, n, d)
        return linear(h, self.code.vectors_out(self.codebook), self.code.bias_out)

    def losses(self, batch: Batch, *, objective: str, generator: torch.Generator) -> Losses:
        """Cross-entropy of every code given those before it, in nats per code."""
        codes = batch.precomputed
        assert codes is not None
        concept = self.caption.drop(batch.text.concept, self.config.caption_dropout, generator)
        loss = F.cross_entropy(self.logits(codes, concept).flatten(0, 1).float(), codes.flatten())
        return Losses(total=loss, terms={"nll": loss.detach()})

    def _sample(self, text: TextStates, options: SampleOptions) -> Float[Tensor, "b 3 h w"]:
        """Write the codes one after the other, each drawn from the guided softmax."""
        scale = options.guidance_scale
        caption = self.caption.with_null(text.concept, scale)  # (b or 2b, n, d)
        noise = gumbel((self.cells, self.codebook_size), options.generators, device=caption.device)
        cache = self.transformer.new_cache(len(caption), self.cells, like=caption)
        codes = torch.empty(len(text), self.cells, dtype=torch.long, device=caption.device)
        vectors_in, vectors_out = self.code.vectors_in(self.codebook), self.code.vectors_out(self.codebook)
        x = caption[:, :1]
        for t in range(self.cells):
            h = self.transformer(x, self.rotation[t : t + 1], cache=cache, start=t)  # (b or 2b, 1, d)
            logits = guide(linear(h[:, 0], vectors_out, self.code.bias_out), scale)
            codes[:, t] = (logits / self.config.temperature + noise[:, t]).argmax(dim=1)
            if t + 1 < self.cells:
                written = F.embedding(codes[:, t : t + 1], vectors_in)  # (b, 1, d)
                x = caption[:, t + 1 : t + 2] + written.repeat(len(caption) // len(codes), 1, 1)
        return self.codec.decode(codes).clamp(-1, 1)
