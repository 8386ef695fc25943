"""The transformer over a grid: its rotation, its cache, and what a zero start means."""

import pytest
import torch

from colour_codes import randomise
from salon.errors import SalonError
from salon.nn.transformer import Transformer, rope_2d


def test_rotation_sees_only_the_offset_between_two_cells() -> None:
    """(R_i q) . (R_j k) is the same for all pairs of cells with one offset, and differs between offsets."""
    side = 5
    turns = rope_2d(side, 16)[:, 0, 0].view(side, side, -1)
    q, k = torch.randn(2, 8, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))

    def score(i: tuple[int, int], j: tuple[int, int]) -> float:
        return ((turns[i] * q) * (turns[j] * k).conj()).real.sum().item()

    assert score((0, 0), (1, 2)) == pytest.approx(score((3, 1), (4, 3)), abs=1e-4)
    assert score((2, 2), (0, 0)) == pytest.approx(score((4, 4), (2, 2)), abs=1e-4)
    assert score((0, 0), (1, 2)) != pytest.approx(score((0, 0), (2, 1)), abs=1e-2)


def test_a_cached_pass_is_the_causal_pass() -> None:
    torch.manual_seed(0)
    transformer = Transformer(width=32, layers=2, head_width=8).eval()
    randomise(transformer)
    rotation = rope_2d(3, 8)
    x = torch.randn(2, 9, 32)
    with torch.no_grad():
        whole = transformer(x, rotation, is_causal=True)
        cache = transformer.new_cache(2, 9, like=x)
        steps = [transformer(x[:, t : t + 1], rotation[t : t + 1], cache=cache, start=t) for t in range(9)]
    assert torch.allclose(torch.cat(steps, dim=1), whole, atol=1e-5)


def test_queries_and_keys_count_by_their_direction_alone() -> None:
    torch.manual_seed(0)
    transformer = Transformer(width=32, layers=1, head_width=8).eval()
    randomise(transformer)
    x, rotation = torch.randn(2, 9, 32), rope_2d(3, 8)
    with torch.no_grad():
        before = transformer(x, rotation)
        transformer.blocks[0].qkv.weight[:64] *= 5  # of queries and keys
        assert torch.allclose(transformer(x, rotation), before, atol=1e-4)
        transformer.blocks[0].qk_scale *= 5
        assert not torch.allclose(transformer(x, rotation), before, atol=1e-2)


def test_it_starts_as_the_identity_up_to_the_last_norm() -> None:
    x = torch.randn(2, 4, 32)
    transformer = Transformer(width=32, layers=3, head_width=8)
    assert torch.equal(transformer(x, rope_2d(2, 8)), transformer.norm(x))


def test_heads_that_do_not_fit_are_refused() -> None:
    with pytest.raises(SalonError, match="head_width 24 does not divide width 32"):
        Transformer(width=32, layers=1, head_width=24)
