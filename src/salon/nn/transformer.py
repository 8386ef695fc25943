"""A transformer over a square grid of tokens, for parallel and for one-by-one decoding.

Pre-norm blocks of attention and SwiGLU (Shazeer 2020). Queries and keys have unit length (Henry 2020) and are
rotated by their row and their column (RoPE, Su 2021, over two axes as in Heo 2024, sec. 3.2).

Departures: layer norm without bias in place of RMSNorm, whose backward pass torch does not fuse (five times
as slow on a CPU). In place of one learned factor of all products, sqrt(head width) times one per pair of
channels of queries and of keys; they join the rotation, one complex product, four times as fast as swapped
halves.
"""

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from salon.errors import SalonError
from salon.nn.layers import zeroed
from salon.nn.products import linear

ROPE_BASE = 100.0  # longest wavelength over the grid, in cells / (2 pi); Heo 2024, sec. 3.3
MLP_RATIO = 8 / 3  # a gated layer of this width costs what a plain one of ratio 4 does (Shazeer 2020)


def rope_2d(side: int, head_width: int) -> Complex[Tensor, "n 1 1 half"]:
    """Per cell of a square grid, row by row, the unit complex numbers that turn queries and keys.

    Half of the channel pairs turn with the row, half with the column.
    """
    frequencies = ROPE_BASE ** -(torch.arange(head_width // 4) / (head_width // 4))
    angles = torch.arange(side)[:, None] * frequencies  # (side, head_width/4)
    rows = angles[:, None].expand(side, side, -1)
    angles = torch.cat([rows, rows.transpose(0, 1)], dim=2).flatten(0, 1)  # (n, head_width/2)
    return torch.polar(torch.ones_like(angles), angles)[:, None, None]


class Block(nn.Module):
    """Self-attention and a gated layer, each behind a norm and a residual connection."""

    def __init__(self, width: int, head_width: int) -> None:
        super().__init__()
        self.head_width = head_width
        hidden = int(width * MLP_RATIO) // 16 * 16  # whole vector registers
        self.norm_attention = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.qk_scale = nn.Parameter(torch.ones(2, 1, head_width // 2))
        self.out = zeroed(nn.Linear(width, width, bias=False))  # the block starts as identity
        self.norm_mlp = nn.LayerNorm(width, bias=False)
        self.gate_up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = zeroed(nn.Linear(hidden, width, bias=False))

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        rotation: Complex[Tensor, "n 1 1 half"],
        *,
        is_causal: bool = False,
        cache: Float[Tensor, "2 b heads m head_width"] | None = None,
        start: int = 0,
        wanted: Int[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, "b n_or_m d"]:
        """With a `cache`, the n tokens of `x` stand at `start` and also see everything before them.

        Where m tokens of each row are `wanted`, these alone come out, in that order; not with `is_causal`.
        """
        assert wanted is None or not is_causal  # the mask knows no order but that of the tokens
        h = self.norm_attention(x)
        # products with parts of a weight: nothing is copied, and backward joins weights, not activations
        to_qk, to_v = self.qkv.weight.split((2 * x.shape[-1], x.shape[-1]))
        qk = linear(h, to_qk).unflatten(-1, (2, -1, self.head_width)).float()  # (b, n, 2, heads, w)
        qk = qk * torch.linalg.vector_norm(qk, dim=-1, keepdim=True).clamp(min=1e-6).reciprocal()
        v = linear(h, to_v).unflatten(-1, (-1, self.head_width)).transpose(1, 2)  # (b, heads, n, w)
        qk = torch.view_as_complex(qk.unflatten(-1, (-1, 2))) * (rotation * self.qk_scale)
        q, k = torch.view_as_real(qk).flatten(-2).to(v.dtype).permute(2, 0, 3, 1, 4)  # (b, heads, n, w) each
        if cache is not None:
            end = start + x.shape[1]
            cache[0, :, :, start:end], cache[1, :, :, start:end] = k, v
            k, v = cache[0, :, :, :end], cache[1, :, :, :end]
        if wanted is not None:
            row = torch.arange(len(x), device=x.device)[:, None]
            q, x = q.transpose(1, 2)[row, wanted].transpose(1, 2), x[row, wanted]
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=is_causal, scale=self.head_width**0.5)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        h = self.norm_mlp(x)
        gate, up = (linear(h, half) for half in self.gate_up.weight.chunk(2))  # (b, n, hidden) each
        # in place where nothing is learned: the three activations do not fit a core's cache
        gated = F.silu(gate) * up if torch.is_grad_enabled() else F.silu(gate, inplace=True).mul_(up)
        return x + self.down(gated)


class Transformer(nn.Module):
    """Blocks and a last norm."""

    def __init__(self, *, width: int, layers: int, head_width: int) -> None:
        super().__init__()
        if width % head_width:
            raise SalonError(f"transformer: head_width {head_width} does not divide width {width}")
        self.heads = width // head_width
        self.head_width = head_width
        self.blocks = nn.ModuleList(Block(width, head_width) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=False)

    def new_cache(self, b: int, n: int, *, like: Tensor) -> Float[Tensor, "layers 2 b heads n head_width"]:
        """Room for the keys and values of `n` positions."""
        return like.new_empty(len(self.blocks), 2, b, self.heads, n, self.head_width)

    def forward(
        self,
        x: Float[Tensor, "b n d"],
        rotation: Complex[Tensor, "n 1 1 half"],
        *,
        is_causal: bool = False,
        cache: Float[Tensor, "layers 2 b heads m head_width"] | None = None,
        start: int = 0,
        wanted: Int[Tensor, "b m"] | None = None,
    ) -> Float[Tensor, "b n_or_m d"]:
        """As the blocks, one after the other; the last one alone is told what is `wanted`."""
        for i, block in enumerate(self.blocks):
            room, last = None if cache is None else cache[i], i + 1 == len(self.blocks)
            asked = wanted if last else None
            x = block(x, rotation, is_causal=is_causal, cache=room, start=start, wanted=asked)
        return self.norm(x)
