"""Codes drawn many at once: from the softmax, each picture's from its own generator."""

import pytest
import torch

from salon.nn.tokens import draw
from salon.training.grids import seeded_generators

CODES = 7


def make_logits(*shape: int) -> torch.Tensor:
    return 2 * torch.randn(*shape, CODES, generator=torch.Generator().manual_seed(0))


def test_codes_come_as_often_as_the_softmax_says() -> None:
    logits = make_logits(1, 1)
    cells = 40_000
    codes, _ = draw(logits.expand(1, cells, CODES), seeded_generators(0, 1))
    shares = torch.bincount(codes.flatten(), minlength=CODES) / cells
    expected = logits.softmax(2).flatten()
    assert (shares - expected).abs().max() < 4 * (0.25 / cells) ** 0.5  # four standard deviations at most


def test_the_log_probability_is_that_of_the_code_drawn() -> None:
    logits = make_logits(3, 5)
    codes, certainty = draw(logits, seeded_generators(0, 3))
    assert codes.shape == certainty.shape == (3, 5)
    assert torch.allclose(certainty, logits.log_softmax(2).gather(2, codes[:, :, None])[:, :, 0], atol=1e-5)


def test_a_picture_is_drawn_alike_alone_and_among_others() -> None:
    logits = make_logits(4, 30)
    together, _ = draw(logits, seeded_generators(0, 4))
    alone = [draw(logits[i : i + 1], seeded_generators(0, 4)[i : i + 1])[0] for i in range(4)]
    assert torch.equal(together, torch.cat(alone))
    assert not torch.equal(together[0], draw(logits[:1], seeded_generators(9, 1))[0][0])


@pytest.mark.parametrize("sure", [0, CODES - 1])
def test_what_is_impossible_is_never_drawn(sure: int) -> None:
    """Nor is the first code where the random number is 0, or one too many where it is nearly 1."""
    logits = torch.full((1, 1, CODES), -torch.inf)
    logits[..., sure] = 0
    codes, certainty = draw(logits.expand(1, 10_000, CODES), seeded_generators(0, 1))
    assert (codes == sure).all()
    assert (certainty == 0).all()


def test_rounding_hardly_ever_changes_a_code() -> None:
    logits = make_logits(1, 1).expand(1, 20_000, CODES)
    rounded = logits + 1e-6 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    codes, _ = draw(logits, seeded_generators(0, 1))
    assert (codes != draw(rounded, seeded_generators(0, 1))[0]).float().mean() < 1e-3
