"""A convolutional generator: noise and a caption to a picture, in one pass.

Dense layers paint the coarsest grids in a few channels, residual blocks modulated by FiLM refine them, and
the last convolution writes a block of pixels per cell, so that no layer with weights works on the full grid.
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from salon.nn.layers import Pyramid, group_norm
from salon.nn.pixel_shuffle import SmoothPixelShuffle
from salon.nn.unet import ResBlock

PAINTED_LEVELS = 2  # coarsest levels whose cells the condition paints one by one
PAINTED_CHANNELS = 32  # of each cell; more only move more memory


class Painter(nn.Module):
    """A dense map from the condition to a grid, added to what is there."""

    def __init__(self, condition_width: int, channels: int, cells: int) -> None:
        super().__init__()
        painted = min(channels, PAINTED_CHANNELS)
        self.dense = nn.Linear(condition_width, painted * cells)
        self.mix = nn.Conv2d(painted, channels, 1)

    def forward(
        self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b c h w"]:
        painting = self.dense(condition).unflatten(1, (-1, *x.shape[2:]))  # (b, painted, h, w)
        return x + self.mix(painting.contiguous(memory_format=torch.channels_last))  # (b, c, h, w)


class Generator(nn.Module):
    """(noise, caption) -> picture in [-1, 1]."""

    def __init__(
        self, pyramid: Pyramid, *, latent_width: int, concept_width: int, condition_width: int
    ) -> None:
        super().__init__()
        channels, patch = pyramid.channels, pyramid.patch
        self.latent = nn.Linear(latent_width, condition_width)
        # linear: what the caption's parts add up to, so that unseen combinations stay near their parts
        self.caption = nn.Linear(concept_width, condition_width)
        self.levels = nn.ModuleList()
        self.painters = nn.ModuleList()
        deepest = len(channels) - 1
        self.coarsest = (channels[deepest], pyramid.grid_side(deepest), pyramid.grid_side(deepest))
        for level in range(deepest, -1, -1):
            entering = channels[min(level + 1, deepest)]
            if deepest - level < PAINTED_LEVELS:
                cells = pyramid.grid_side(level) ** 2
                self.painters.append(Painter(condition_width, entering, cells))
            widths = [entering] + [channels[level]] * pyramid.blocks_per_level
            blocks = nn.ModuleList(ResBlock(*pair, condition_width) for pair in pairwise(widths))
            self.levels.append(blocks)
        self.norm = group_norm(channels[0])
        self.head = nn.Conv2d(channels[0], 3 * patch**2, 3, padding=1)
        with torch.no_grad():  # all pixels of a block start equal (Aitken 2017): no grid to begin with
            self.head.weight.copy_(self.head.weight[:: patch**2].repeat_interleave(patch**2, dim=0))
            assert self.head.bias is not None
            self.head.bias.zero_()
        self.shuffle = SmoothPixelShuffle(patch)

    def forward(self, z: Float[Tensor, "b z"], concept: Float[Tensor, "b w"]) -> Float[Tensor, "b 3 h w"]:
        condition = F.silu(self.latent(z) + self.caption(concept))
        h = z.new_zeros(len(z), *self.coarsest).contiguous(memory_format=torch.channels_last)
        for depth, blocks in enumerate(self.levels):
            if depth:
                h = F.interpolate(h, scale_factor=2.0, mode="nearest")
            if depth < len(self.painters):
                h = self.painters[depth](h, condition)
            for block in blocks.children():
                h = block(h, condition)  # (b, channels[i], h/p/2^i, w/p/2^i)
        return self.shuffle(self.head(F.silu(self.norm(h)))).tanh()
