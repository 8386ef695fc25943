"""What several convolutional networks have in common: their grids, and how their layers begin."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from salon.errors import SalonError

L = TypeVar("L", nn.Linear, nn.Conv2d)

GROUP_CHANNELS = 16  # channels per group of GroupNorm


@dataclass(frozen=True)
class Pyramid:
    """The grids of a network on square pictures, each half as fine as the one before."""

    channels: Sequence[int]
    """Width of each level, the finest first."""
    blocks_per_level: int
    """Residual blocks; of a U-Net on the way down, and again on the way up."""
    patch: int
    """Side of the pixel blocks that are the cells of the finest level."""
    side: int
    """Width and height of the picture."""
    what: str = "pictures"
    """Whose side it is, in an error."""

    def __post_init__(self) -> None:
        halvings = len(self.channels) - 1
        coarsest = self.patch * 2**halvings
        if self.side % coarsest:
            raise SalonError(
                f"{self.what} of side {self.side} cannot be folded by patch {self.patch} and halved "
                f"{halvings} times; make the side a multiple of {coarsest}"
            )

    def grid_side(self, level: int) -> int:
        """Cells along each side of a level."""
        return self.side // self.patch // 2**level


def group_norm(channels: int) -> nn.GroupNorm:
    """As many groups as there are `GROUP_CHANNELS`, at least one."""
    return nn.GroupNorm(max(1, channels // GROUP_CHANNELS), channels)


def zeroed(layer: L) -> L:
    """`layer` with zeros: what stands beside a residual connection starts as identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
