"""Codes on a grid under a caption: what predicting them takes, in whatever order.

Every cell has logits over the codebook. Guidance is classifier-free (Ho 2022) on the logits:
l = l_free + s (l_caption - l_free). One code at a time is drawn as argmax(l / T + g) with Gumbel noise g,
which samples the softmax (Gumbel 1954) in two operations; many at once by inverting their distribution
functions, which takes one random number a code in place of one for each that it could be, a quarter of the
time for 64 codes of 512. The price: where another batch size or machine rounds otherwise, fifty times as many
codes come out otherwise, one in 10,000.
"""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from salon.nn.noise import drop_mask, own_noise


class CodeMaps(nn.Module):
    """Codes on their way into a transformer and out of it.

    The input vector of a code and its weights in the last layer are each a free vector plus a linear map of
    its codebook entry: what is learned of one code holds for all that look like it.
    """

    def __init__(self, codebook: Float[Tensor, "k z"], width: int, *, extra: int = 0) -> None:
        """`extra` more codes come in and never go out."""
        super().__init__()
        codebook_size, code_width = codebook.shape
        self.extra = extra
        self.free_in = nn.Parameter(torch.zeros(codebook_size + extra, width))
        self.entry_in = nn.Linear(code_width, width, bias=False)
        # zeros: the first prediction is uniform
        self.free_out = nn.Parameter(torch.zeros(codebook_size, width))
        self.entry_out = nn.Parameter(torch.zeros(code_width, width))
        self.bias_out = nn.Parameter(torch.zeros(codebook_size))

    def vectors_in(self, codebook: Float[Tensor, "k z"]) -> Float[Tensor, "k_extra d"]:
        """Input vector of each code."""
        return self.free_in + F.pad(self.entry_in(codebook), (0, 0, 0, self.extra))

    def vectors_out(self, codebook: Float[Tensor, "k z"]) -> Float[Tensor, "k d"]:
        """Weights of each code's logit."""
        return self.free_out + codebook @ self.entry_out


class CaptionGrid(nn.Module):
    """The caption's part of every cell's input: a vector that all cells share, and a layout cell by cell.

    Both are linear in the caption's words, so that unseen combinations stay near their parts. The layout's
    bias is a learned embedding of the position.
    """

    def __init__(self, concept_width: int, width: int, cells: int) -> None:
        super().__init__()
        self.shared = nn.Linear(concept_width, width)
        self.layout = nn.Linear(concept_width, width * cells)
        self.null_words = nn.Parameter(torch.zeros(concept_width))

    def forward(self, concept: Float[Tensor, "b w"]) -> Float[Tensor, "b n d"]:
        shared = self.shared(concept)[:, None]  # (b, 1, d)
        return shared + self.layout(concept).unflatten(1, (-1, shared.shape[2]))

    def drop(
        self, concept: Float[Tensor, "b w"], share: float, generator: torch.Generator
    ) -> Float[Tensor, "b w"]:
        """`concept` with a random share replaced by the learned null caption."""
        dropped = drop_mask(concept, share, generator=generator)
        return torch.where(dropped[:, None], self.null_words, concept)

    def with_null(self, concept: Float[Tensor, "b w"], scale: float) -> Float[Tensor, "b2 n d"]:
        """The inputs of the captions and, where guidance needs them, after them those of the null caption."""
        captioned = self(concept)
        if scale == 1:
            return captioned
        return torch.cat([captioned, self(self.null_words[None]).expand_as(captioned)])


def guide(logits: Float[Tensor, "b2 ..."], scale: float) -> Float[Tensor, "b ..."]:
    """Guided logits from those of `CaptionGrid.with_null`."""
    if scale == 1:
        return logits
    captioned, free = logits.chunk(2)
    return free.lerp(captioned, scale)


def draw(
    logits: Float[Tensor, "b m k"], generators: Sequence[torch.Generator]
) -> tuple[Int[Tensor, "b m"], Float[Tensor, "b m"]]:
    """Codes of the softmax, each picture's from its own generator, and their log-probabilities.

    Logits that are not numbers give the last code.
    """
    p = logits.softmax(dim=2)
    distribution = p.cumsum(dim=2, dtype=torch.float64)  # doubles: no code is too improbable to be drawn
    shape = (logits.shape[1], 1)
    uniform = own_noise(shape, generators, device=p.device, draw=partial(torch.rand, dtype=torch.float64))
    level = uniform * distribution[:, :, -1:]
    codes = torch.searchsorted(distribution, level, right=True).clamp(max=logits.shape[2] - 1)  # (b, m, 1)
    return codes[:, :, 0], p.gather(2, codes)[:, :, 0].log()


def gumbel(
    shape: Sequence[int], generators: Sequence[torch.Generator], *, device: torch.device
) -> Float[Tensor, "b ..."]:
    """Gumbel noise on `device`, each picture's from its own generator."""
    # torch's own exponential draws take eight times as long on a CPU
    uniform = own_noise(shape, generators, device=device, draw=torch.rand)
    return uniform.log_().neg_().log_().neg_()
