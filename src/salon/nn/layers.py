"""Layers in the form in which several networks begin with them."""

from typing import TypeVar

from torch import nn

L = TypeVar("L", nn.Linear, nn.Conv2d)

GROUP_CHANNELS = 16  # channels per group of GroupNorm


def group_norm(channels: int) -> nn.GroupNorm:
    """As many groups as there are `GROUP_CHANNELS`, at least one."""
    return nn.GroupNorm(max(1, channels // GROUP_CHANNELS), channels)


def zeroed(layer: L) -> L:
    """`layer` with zeros: what stands beside a residual connection starts as identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
