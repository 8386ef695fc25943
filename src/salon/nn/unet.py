"""A U-Net of residual convolutions, conditioned by FiLM and by attention to text tokens.

Cheap by construction: pixels are folded into channels first (pixel-unshuffle), and the widest layers work on
the coarsest grids.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from salon.nn.layers import Pyramid, group_norm, zeroed
from salon.nn.pixel_shuffle import SmoothPixelShuffle


class FourierEmbedding(nn.Module):
    """Sines and cosines of a scalar in [0, 1] at fixed frequencies (Vaswani 2017, sec. 3.5)."""

    frequencies: Float[Tensor, "d"]

    def __init__(self, width: int, *, max_period: float = 1000.0) -> None:
        super().__init__()
        frequencies = torch.exp(torch.linspace(0, math.log(max_period), width // 2))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b d"]:
        angles = t.float()[:, None] * self.frequencies[None]
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class ResBlock(nn.Module):
    """Two convolutions with FiLM between them (Perez 2018) and a residual connection."""

    def __init__(self, in_channels: int, out_channels: int, condition_width: int) -> None:
        super().__init__()
        self.norm_in = group_norm(in_channels)
        self.conv_in = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm_out = group_norm(out_channels)
        self.film = nn.Linear(condition_width, 2 * out_channels)
        self.conv_out = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(
        self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b d h w"]:
        h = self.conv_in(F.silu(self.norm_in(x)))
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm_out(h), scale + 1)
        return self.skip(x) + self.conv_out(F.silu(h))


class JointAttention(nn.Module):
    """Each grid cell looks at all cells and at the caption's tokens, in one softmax (Esser 2024, sec. 4)."""

    def __init__(self, channels: int, text_width: int, *, head_width: int = 32) -> None:
        super().__init__()
        self.heads = max(1, channels // head_width)
        self.norm = group_norm(channels)
        self.cells = nn.Linear(channels, 3 * channels)
        self.text = nn.Linear(text_width, 2 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(
        self, x: Float[Tensor, "b c h w"], tokens: Float[Tensor, "b n d"], mask: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b c h w"]:
        b, _, height, width = x.shape
        cells = self.norm(x).permute(0, 2, 3, 1).flatten(1, 2)  # (b, h*w, c)
        q, k, v = self.cells(cells).chunk(3, dim=-1)
        text_k, text_v = self.text(tokens).chunk(2, dim=-1)  # (b, n, c)
        k, v = torch.cat([k, text_k], dim=1), torch.cat([v, text_v], dim=1)  # (b, h*w+n, c)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))
        visible = torch.cat([mask.new_ones(b, height * width), mask], dim=1)[:, None, None]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)  # (b, heads, h*w, c/heads)
        attended = self.out(attended.transpose(1, 2).flatten(2))
        return x + attended.unflatten(1, (height, width)).permute(0, 3, 1, 2)


class UNet(nn.Module):
    """Denoiser: (noisy picture, condition vector, text tokens) -> a field of the picture's shape."""

    def __init__(
        self,
        pyramid: Pyramid,
        *,
        in_channels: int,
        condition_width: int,
        text_width: int,
        attention_levels: Sequence[int],
        layout_levels: Sequence[int],
    ) -> None:
        """Cells of `attention_levels` attend to each other and to the text tokens.

        On the grid of `layout_levels` the condition paints a coarse layout, cell by cell.
        """
        super().__init__()
        channels, patch = pyramid.channels, pyramid.patch
        self.patch = patch
        self.shuffle = SmoothPixelShuffle(patch)
        folded = in_channels * patch**2
        self.stem = nn.Conv2d(folded, channels[0], 3, padding=1)

        def level_blocks(widths: Sequence[int], level: int) -> nn.ModuleList:
            blocks = nn.ModuleList(ResBlock(*pair, condition_width) for pair in pairwise(widths))
            if level in attention_levels:
                blocks.append(JointAttention(widths[-1], text_width))
            return blocks

        self.down = nn.ModuleList()
        self.shrink = nn.ModuleList()
        for level, width in enumerate(channels):
            before = channels[max(0, level - 1)]
            self.shrink.append(nn.Conv2d(before, before, 3, stride=2, padding=1) if level else nn.Identity())
            self.down.append(level_blocks([before] + [width] * pyramid.blocks_per_level, level))
        # Convolutions see no position. A dense map from the condition to the grid, as a GAN generator starts
        # with, tells at once where a described thing lies; they would take thousands of steps to learn it.
        self.layouts = nn.ModuleDict()
        for level in layout_levels:
            cells = pyramid.grid_side(level) ** 2
            self.layouts[str(level)] = nn.Linear(condition_width, channels[level] * cells)
        self.up = nn.ModuleList()
        for level, width in reversed(list(enumerate(channels))):
            below = channels[min(level + 1, len(channels) - 1)]
            entering = width if level == len(channels) - 1 else below + width  # the deepest has no skip
            self.up.append(level_blocks([entering] + [width] * pyramid.blocks_per_level, level))
        self.norm = group_norm(channels[0])
        self.head = zeroed(nn.Conv2d(channels[0], folded, 3, padding=1))  # the first prediction is zero

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        condition: Float[Tensor, "b e"],
        tokens: Float[Tensor, "b n d"],
        mask: Bool[Tensor, "b n"],
    ) -> Float[Tensor, "b c h w"]:
        h = F.pixel_unshuffle(x, self.patch)  # (b, c*p*p, h/p, w/p)
        h = self.stem(h.contiguous(memory_format=torch.channels_last))
        skips = []
        for level, (shrink, blocks) in enumerate(zip(self.shrink, self.down, strict=True)):
            h = _run(blocks, shrink(h), condition, tokens, mask)  # (b, channels[i], h/p/2^i, w/p/2^i)
            if str(level) in self.layouts:
                h = h + self.layouts[str(level)](condition).unflatten(1, h.shape[1:])
            skips.append(h)
        for depth, blocks in enumerate(self.up):
            if depth:
                h = torch.cat([F.interpolate(h, scale_factor=2.0, mode="nearest"), skips[-1 - depth]], dim=1)
            h = _run(blocks, h, condition, tokens, mask)
        return self.shuffle(self.head(F.silu(self.norm(h))))


def _run(blocks: nn.Module, h: Tensor, condition: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    for block in blocks.children():
        h = block(h, condition) if isinstance(block, ResBlock) else block(h, tokens, mask)
    return h
