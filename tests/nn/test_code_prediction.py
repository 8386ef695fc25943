"""Codes drawn many at once: from the softmax, each picture's from its own generator."""

import pytest
import torch

from salon.nn.code_prediction import draw
from salon.seeding import seeded_generators

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
    logits = torch.full((1, 1, CODES), -torch.inf)
    logits[..., sure] = 0
    codes, certainty = draw(logits.expand(1, 10_000, CODES), seeded_generators(0, 1))
    assert (codes == sure).all()
    assert (certainty == 0).all()


@pytest.mark.parametrize(("uniform", "expected"), [(0.0, 2), (1 - 2**-53, 4)])
def test_the_extreme_random_numbers_draw_the_extreme_codes_that_are_possible(
    monkeypatch: pytest.MonkeyPatch, uniform: float, expected: int
) -> None:
    def rand(*shape: int, dtype: torch.dtype, **_: object) -> torch.Tensor:
        return torch.full(shape, uniform, dtype=dtype)

    monkeypatch.setattr(torch, "rand", rand)
    logits = torch.tensor([-torch.inf, -torch.inf, 0.3, -20.0, -0.2, -torch.inf, -torch.inf])
    codes, _ = draw(logits.expand(2, 3, CODES), seeded_generators(0, 2))
    assert (codes == expected).all()


def test_codes_that_a_sum_in_single_precision_would_lose_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probability of 1e-9 after one of 0.5 is still an interval of random numbers."""
    p = torch.tensor([0.5, 1e-9, 0.5])
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, 0.5 + 4e-10).double())
    codes, certainty = draw(p.log().expand(1, 1, 3), seeded_generators(0, 1))
    assert codes.item() == 1
    assert certainty.exp().item() == pytest.approx(1e-9, rel=1e-3)


def test_rounding_changes_few_codes_of_a_full_codebook() -> None:
    """At the size of the default codebook, by the rounding of a differently shaped batch."""
    generator = torch.Generator().manual_seed(1)
    logits = 2 * torch.randn(50, 64, 512, generator=generator)
    rounded = logits + 4e-6 * torch.randn(logits.shape, generator=generator)
    codes, _ = draw(logits, seeded_generators(0, 50))
    assert (codes != draw(rounded, seeded_generators(0, 50))[0]).float().mean() < 2e-3
