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
    two. Detail of exactly the block's period is lost with it; what else it blurs, the layers before it learn
    to sharpen.
    """

    kernel: Float[Tensor, "1 1 k k"]

    def __init__(self, patch: int) -> None:
        """`patch` is the side of a block; blocks of one pixel are left as they are."""
        super().__init__()
        self.patch = patch
        rise = torch.arange(1.0, patch + 1)
        triangle = torch.cat([rise, rise[:-1].flip(0)]) / patch**2  # (k,)
        self.register_buffer("kernel", torch.outer(triangle, triangle)[None, None], persistent=False)

    def forward(self, folded: Float[Tensor, "b c_p_p h w"]) -> Float[Tensor, "b c hp wp"]:
        x = F.pixel_shuffle(folded, self.patch)
        if self.patch == 1:
            return x
        x = F.pad(x, [self.patch - 1] * 4, mode="reflect")
        channels = x.shape[1]
        return conv2d(x, self.kernel.to(x.dtype).expand(channels, -1, -1, -1), groups=channels)
