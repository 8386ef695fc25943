"""Blocks of pixels become a picture without a trace of the blocks."""

import pytest
import torch
from torch.nn import functional as F

from salon.nn.generator import Generator
from salon.nn.layers import Pyramid
from salon.nn.pixel_shuffle import SmoothPixelShuffle
from salon.nn.unet import UNet


@pytest.mark.parametrize("patch", [2, 3, 4])
def test_weights_that_differ_within_a_block_leave_no_grid_on_a_flat_surface(patch: int) -> None:
    place = torch.randn(2, 3 * patch**2, 1, 1, generator=torch.Generator().manual_seed(0))
    picture = SmoothPixelShuffle(patch)(place.expand(-1, -1, 8, 8))
    assert F.pixel_shuffle(place, patch).std(dim=(2, 3)).min() > 0.1  # the grid that was there
    inside = picture[:, :, patch:-patch, patch:-patch]
    torch.testing.assert_close(inside, place.unflatten(1, (3, -1)).mean(dim=2).expand_as(inside))


def test_blocks_of_two_leave_none_at_the_edges_either() -> None:
    place = torch.randn(1, 12, 1, 1, generator=torch.Generator().manual_seed(0))
    picture = SmoothPixelShuffle(2)(place.expand(-1, -1, 4, 4))
    torch.testing.assert_close(picture, picture[:, :, :1, :1].expand_as(picture))


@pytest.mark.parametrize("patch", [2, 3])
def test_nothing_moves_and_nothing_fades(patch: int) -> None:
    ramp = torch.arange(12.0).expand(1, 3, 12, 12)
    picture = SmoothPixelShuffle(patch)(F.pixel_unshuffle(ramp, patch))
    torch.testing.assert_close(picture[..., patch:-patch], ramp[..., patch:-patch])
    flat = torch.full((1, 3 * patch**2, 4, 4), 0.7)
    torch.testing.assert_close(SmoothPixelShuffle(patch)(flat), torch.full((1, 3, 4 * patch, 4 * patch), 0.7))


@pytest.mark.parametrize("patch", [2, 3])
def test_detail_of_the_blocks_period_is_lost_at_first_and_can_be_learned(patch: int) -> None:
    """In blocks of two that is a checkerboard, the finest detail that there is."""
    wave = torch.cos(2 * torch.pi / patch * torch.arange(8.0 * patch))
    folded = F.pixel_unshuffle(torch.outer(wave, wave).expand(1, 3, -1, -1), patch)
    inside = slice(patch, -patch)
    shuffle = SmoothPixelShuffle(patch)
    drawn = shuffle(folded)[..., inside, inside]
    assert drawn.abs().max() < 1e-6
    target = F.pixel_shuffle(folded, patch)[..., inside, inside]
    (drawn * target).sum().backward()
    assert shuffle.sharpen.grad.abs().max() > 1
    with torch.no_grad():
        shuffle.sharpen[0, 0, patch - 1, patch - 1] += 0.5  # what is under the filter's centre, once more
    torch.testing.assert_close(shuffle(folded)[..., inside, inside], 0.5 * target)


PYRAMID = Pyramid([16, 16], blocks_per_level=1, patch=2, side=16)


def make_generator() -> Generator:
    return Generator(PYRAMID, latent_width=8, concept_width=8, condition_width=16)


def make_unet() -> UNet:
    return UNet(
        PYRAMID, in_channels=3, condition_width=16, text_width=8, attention_levels=[], layout_levels=[]
    )


@pytest.mark.parametrize("network", [make_generator(), make_unet()], ids=["generator", "unet"])
def test_a_head_whose_pixels_differ_draws_a_flat_picture(network: Generator | UNet) -> None:
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.copy_(torch.randn(12, generator=noise))
    if isinstance(network, Generator):
        picture = network(torch.randn(2, 8, generator=noise), torch.randn(2, 8, generator=noise))
    else:
        words, mask = torch.zeros(2, 4, 8), torch.ones(2, 4, dtype=torch.bool)
        picture = network(torch.randn(2, 3, 16, 16, generator=noise), torch.zeros(2, 16), words, mask)
    assert picture.shape == (2, 3, 16, 16)
    torch.testing.assert_close(picture, picture[:, :, :1, :1].expand_as(picture))


def test_blocks_of_one_pixel_are_left_alone() -> None:
    picture = torch.randn(2, 3, 5, 5)
    assert torch.equal(SmoothPixelShuffle(1)(picture), picture)
