"""Channels of one cell as a block of pixels."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from salon.nn.products import conv2d


class SmoothPixelShuffle(nn.Module):
    """Sub-pixel convolution's rearrangement (Shi 2016, eq. 4), then a filter against the grid of its blocks.

    A pixel's weights depend on its place in the block, so that a flat surface comes out as a pattern of the
    block's period. A mean over one block takes that pattern away (Sugawara 2018), for blocks of more than two
    pixels except at the picture's edge; taken twice, it is centred on a pixel: (1, 2, 1) / 4 for blocks of
    two. Detail of exactly the block's period would be lost with it, which in blocks of two is the finest of
    all, so that what is learned is added to the filter: it begins without a grid and ends as sharp as data.
    """

    smooth: Float[Tensor, "1 1 k k"]

    def __init__(self, patch: int) -> None:
        """`patch` is the side of a block; blocks of one pixel are left as they are."""
        super().__init__()
        self.patch = patch
        if patch == 1:
            return
        rise = torch.arange(1.0, patch + 1)
        triangle = torch.cat([rise, rise[:-1].flip(0)]) / patch**2  # (k,)
        self.register_buffer("smooth", torch.outer(triangle, triangle)[None, None], persistent=False)
        self.sharpen = nn.Parameter(torch.zeros_like(self.smooth))

    def forward(self, folded: Float[Tensor, "b c_p_p h w"]) -> Float[Tensor, "b c hp wp"]:
        x = F.pixel_shuffle(folded, self.patch)
        if self.patch == 1:
            return x
        x = F.pad(x, [self.patch - 1] * 4, mode="reflect")
        channels = x.shape[1]
        kernel = (self.smooth + self.sharpen).to(x.dtype)
        return conv2d(x, kernel.expand(channels, -1, -1, -1), groups=channels)
