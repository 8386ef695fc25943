"""Is a picture real, patch by patch (Isola 2017, sec. 3.2.2)? Texture and edges count, not the subject."""

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Strided convolutions without normalisation; one logit per patch."""

    def __init__(self, channels: Sequence[int]) -> None:
        """`channels[i]` is the width of level i, whose grid is half as fine as the one before."""
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in pairwise([3, *channels]):
            layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        last = channels[-1]
        layers += [nn.Conv2d(last, last, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(last, 1, 3, padding=1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 h' w'"]:
        return self.layers(images)
