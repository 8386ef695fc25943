"""Vector quantisation: each vector becomes the number of its nearest codebook entry.

The codebook is not trained by gradients but follows the vectors that it stands for, as a moving k-means
(van den Oord 2017, app. A.1): N_k <- g N_k + (1 - g) n_k, m_k <- g m_k + (1 - g) sum(z), e_k = m_k / N_k.
The gradient passes straight through the rounding to whoever made the vectors (sec. 3.2), and the commitment
|z - e_k|^2 keeps them near their entries (eq. 3).

Departures: entries start as k-means of real vectors, and an entry that is hardly used moves to a vector of
the present batch (Dhariwal 2020, sec. 3.1), so that none stays dead.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

DEAD_SHARE = 0.03  # an entry with less than this share of an even load is dead
REBORN_SHARE = 0.2  # the load with which a moved entry starts: enough to survive until it is found


class Quantized(NamedTuple):
    """What a batch of vectors became."""

    z_q: Float[Tensor, "n d"]
    """Entries in place of the vectors; gradients pass to the vectors."""
    codes: Int[Tensor, "n"]
    """Numbers of the entries."""
    commitment: Float[Tensor, ""]
    """Mean squared distance from the vectors to their entries."""


class VectorQuantizer(nn.Module):
    """A codebook of `codebook_size` entries that follows the vectors while the module is in training mode."""

    codebook: Float[Tensor, "k d"]
    counts: Float[Tensor, "k"]

    def __init__(self, codebook_size: int, width: int, *, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("codebook", torch.randn(codebook_size, width))
        self.register_buffer("counts", torch.ones(codebook_size))  # N_k; m_k is counts * codebook

    def assign(self, z: Float[Tensor, "n d"]) -> Int[Tensor, "n"]:
        """Numbers of the nearest entries."""
        # |z - e|^2 without |z|^2, which all entries share
        return (self.codebook.square().sum(dim=1) - 2 * z @ self.codebook.T).argmin(dim=1)

    def forward(self, z: Float[Tensor, "n d"], generator: torch.Generator | None = None) -> Quantized:
        """Quantise; in training mode the codebook follows `z`; `generator` picks new homes of the dead."""
        codes = self.assign(z.detach())
        z_q = self.codebook[codes]
        if self.training:
            self._follow(z.detach(), codes, generator)
        return Quantized(z_q=z + (z_q - z).detach(), codes=codes, commitment=F.mse_loss(z, z_q))

    @torch.no_grad()
    def initialise(
        self, z: Float[Tensor, "n d"], generator: torch.Generator | None = None, *, iterations: int = 10
    ) -> None:
        """Set the entries by k-means (Lloyd 1982) of real vectors."""
        self.codebook.copy_(self._pick(z, generator))
        for _ in range(iterations):
            sums, counts = self._gather(z, self.assign(z))
            means = sums / counts.clamp(min=1)[:, None]
            self.codebook.copy_(torch.where(counts[:, None] > 0, means, self._pick(z, generator)))
        self.counts.fill_(1.0)

    @torch.no_grad()
    def _follow(self, z: Tensor, codes: Tensor, generator: torch.Generator | None) -> None:
        sums, n = self._gather(z, codes)
        moments = (self.counts[:, None] * self.codebook).lerp(sums, 1 - self.decay)
        counts = self.counts.lerp(n, 1 - self.decay)
        even = len(z) / len(self.codebook)  # load of an entry if all were used alike
        dead = counts < DEAD_SHARE * even
        means = moments / counts.clamp(min=1e-8)[:, None]
        self.codebook.copy_(torch.where(dead[:, None], self._pick(z, generator), means))
        self.counts.copy_(torch.where(dead, REBORN_SHARE * even, counts))

    def _gather(self, z: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Sum and number of the vectors of each entry."""
        # not bincount: it has the CPU wait for the largest code
        counts = z.new_zeros(len(self.codebook)).index_add_(0, codes, z.new_ones(len(codes)))
        return torch.zeros_like(self.codebook).index_add_(0, codes, z), counts

    def _pick(self, z: Tensor, generator: torch.Generator | None) -> Tensor:
        """One random vector of `z` per entry; none twice as long as there are enough."""
        device = z.device if generator is None else generator.device
        order = torch.randperm(len(z), generator=generator, device=device).to(z.device)
        return z[order.repeat(-(-len(self.codebook) // len(z)))[: len(self.codebook)]]


def perplexity(codes: Int[Tensor, "..."], codebook_size: int) -> float:
    """2 to the entropy of the codes: how many entries carry the pictures, if all were used alike."""
    shares = torch.bincount(codes.flatten(), minlength=codebook_size).double() / codes.numel()
    shares = shares[shares > 0]
    return float(torch.exp(-(shares * shares.log()).sum()))
