"""A convolutional discriminator that judges pictures together with their captions.

No normalisation, since statistics of a batch disturb gradient penalties (Gulrajani 2017, sec. 4); residual
blocks that start as identity take its place (Zhang 2019, "Fixup", as in R3GAN, Huang 2024). No attention: the
penalties differentiate twice, which fused attention kernels cannot.
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from salon.nn.layers import Pyramid, zeroed

SLOPE = 0.2  # of the leaky ReLU (Huang 2024)


class PlainResBlock(nn.Module):
    """Two convolutions and a residual connection, without normalisation."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv_out = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()
        nn.init.kaiming_normal_(self.conv_in.weight, a=SLOPE)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        h = self.conv_in(F.leaky_relu(x, SLOPE))
        return self.skip(x) + self.conv_out(F.leaky_relu(h, SLOPE))


class ProjectionDiscriminator(nn.Module):
    """D(x, c) = w . phi(x) + phi(x) . V c (Miyato 2018): only phi costs anything, whatever the captions."""

    def __init__(self, pyramid: Pyramid, *, concept_width: int, feature_width: int) -> None:
        """`feature_width` is the width of phi."""
        super().__init__()
        channels, self.patch = pyramid.channels, pyramid.patch
        layers: list[nn.Module] = [nn.Conv2d(3 * self.patch**2, channels[0], 3, padding=1)]
        for level, width in enumerate(channels):
            if level:
                layers.append(nn.AvgPool2d(2))
            widths = [channels[max(0, level - 1)]] + [width] * pyramid.blocks_per_level
            layers += [PlainResBlock(before, after) for before, after in pairwise(widths)]
        self.trunk = nn.Sequential(*layers)
        cells = pyramid.grid_side(len(channels) - 1) ** 2
        self.flat = nn.Linear(channels[-1] * cells, feature_width)  # keeps where things lie, unlike pooling
        self.realness = nn.Linear(feature_width, 1)
        self.caption = nn.Linear(concept_width, feature_width, bias=False)

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """phi(x)."""
        h = F.pixel_unshuffle(images, self.patch)  # (b, 3*p*p, h/p, w/p)
        h = self.trunk(h.contiguous(memory_format=torch.channels_last))  # (b, channels[-1], h', w')
        return F.leaky_relu(self.flat(F.leaky_relu(h, SLOPE).flatten(1)), SLOPE)

    def logits(self, features: Float[Tensor, "b f"], concept: Float[Tensor, "m w"]) -> Float[Tensor, "b m"]:
        """D of every picture with every caption."""
        return self.realness(features) + features @ self.caption(concept).T / features.shape[1] ** 0.5

    def forward(self, images: Float[Tensor, "b 3 h w"], concept: Float[Tensor, "b w"]) -> Float[Tensor, "b"]:
        """D of each picture with its own caption."""
        return self.logits(self.features(images), concept).diagonal()
