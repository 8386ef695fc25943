"""A codec that can be read by eye, and text states, for tests of methods that work on codes."""

import torch

from frozen_nets import build_towers
from salon.codecs.base import Codec, CodecConfig, CodecTask, DiscreteCodec
from salon.methods.base import FrozenNets
from salon.towers.states import TextStates

WIDTH = 8


class ColourCodec(DiscreteCodec):
    """Eight colours, one per 4 x 4 pixels: the codes of a decoded picture are those it was decoded from."""

    def __init__(self) -> None:
        super().__init__(CodecConfig())
        colours = torch.tensor([-0.5, 0.5])
        self.register_buffer("colours", torch.cartesian_prod(colours, colours, colours))

    @property
    def codebook_size(self) -> int:
        return 8

    @property
    def codebook(self) -> torch.Tensor:
        return self.colours

    @property
    def downsampling(self) -> int:
        return 4

    def encode_grid(self, images: torch.Tensor) -> torch.Tensor:
        corners = images[:, :, ::4, ::4].permute(0, 2, 3, 1)
        return torch.cdist(corners.flatten(1, 2), self.colours[None]).argmin(dim=2).view(corners.shape[:3])

    def decode_grid(self, codes: torch.Tensor) -> torch.Tensor:
        return self.colours[codes].permute(0, 3, 1, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)

    def start_from(self, other: Codec) -> None:
        raise NotImplementedError

    def task(self) -> CodecTask:
        raise NotImplementedError


def colour_frozen() -> FrozenNets:
    """The colour codec and untrained towers."""
    torch.manual_seed(0)
    return FrozenNets(ColourCodec().eval(), build_towers(WIDTH).requires_grad_(False))


def make_text(count: int) -> TextStates:
    generator = torch.Generator().manual_seed(0)
    return TextStates(
        torch.randn(count, 4, WIDTH, generator=generator),
        torch.ones(count, 4, dtype=torch.bool),
        torch.nn.functional.normalize(torch.randn(count, WIDTH, generator=generator), dim=1),
        torch.randn(count, WIDTH, generator=generator),
    )


def randomise(module: torch.nn.Module) -> None:
    """Weights as after some training: none is zero any more."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
