"""The quantiser, against vectors worked by hand."""

import pytest
import torch

from salon.nn.quantizer import VectorQuantizer, perplexity


def quantizer(entries: list[list[float]], **settings: float) -> VectorQuantizer:
    made = VectorQuantizer(len(entries), len(entries[0]), **settings)
    made.codebook.copy_(torch.tensor(entries))
    return made


def test_each_vector_becomes_its_nearest_entry() -> None:
    q = quantizer([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0]]).eval()
    z = torch.tensor([[1.0, 1.0], [3.0, 0.5], [0.0, 1.6], [-9.0, -9.0]])
    done = q(z)
    assert done.codes.tolist() == [0, 1, 2, 0]
    assert done.z_q.tolist() == [[0.0, 0.0], [4.0, 0.0], [0.0, 3.0], [0.0, 0.0]]
    # squared distances: 1+1, 1+0.25, 0+1.96, 81+81, over 8 numbers
    assert done.commitment.item() == pytest.approx((2 + 1.25 + 1.96 + 162) / 8)
    assert torch.equal(q.codebook[torch.tensor([[2, 0]])], torch.tensor([[[0.0, 3.0], [0.0, 0.0]]]))


def test_gradients_pass_straight_through_and_commitment_pulls_to_the_entry() -> None:
    q = quantizer([[0.0], [10.0]]).eval()
    z = torch.tensor([[1.0], [8.0]], requires_grad=True)
    done = q(z)
    (done.z_q * torch.tensor([[5.0], [-7.0]])).sum().backward(retain_graph=True)
    assert z.grad is not None
    assert z.grad.tolist() == [[5.0], [-7.0]]
    z.grad = None
    done.commitment.backward()
    assert z.grad.tolist() == [[1.0], [-2.0]]  # 2 (z - e) / 2 vectors


def test_the_codebook_follows_its_vectors_in_training_only() -> None:
    """N_0 = 0.5 * 1 + 0.5 * 2 and m_0 = 0.5 * 0 + 0.5 * (1 + 2), so that e_0 = 1.5 / 1.5."""
    q = quantizer([[0.0], [10.0]], decay=0.5)
    z = torch.tensor([[1.0], [2.0], [9.0]])
    q.eval()(z)
    assert q.codebook.tolist() == [[0.0], [10.0]]
    q.train()(z)
    assert q.counts.tolist() == [1.5, 1.0]
    assert q.codebook[:, 0].tolist() == pytest.approx([1.0, 9.5])


def test_a_dead_entry_moves_to_a_vector_of_the_batch() -> None:
    q = quantizer([[0.0], [1000.0]], decay=0.5).train()
    z = torch.tensor([[-1.0], [1.0], [2.0]])
    for step in range(8):
        q(z, torch.Generator().manual_seed(step))
    assert q.codebook.abs().max() <= 2
    assert set(q(z).codes.tolist()) == {0, 1}


def test_k_means_finds_the_clusters_and_survives_few_vectors() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]])
    z = centres.repeat(50, 1) + 0.1 * torch.randn(150, 2, generator=generator)
    q = VectorQuantizer(3, 2)
    best = min(
        q.eval()(z).commitment.item()
        for seed in range(5)
        if q.initialise(z, torch.Generator().manual_seed(seed)) is None
    )
    assert best < 0.02
    few = VectorQuantizer(8, 2)
    few.initialise(z[:3], generator)
    assert torch.isfinite(few.codebook).all()


def test_perplexity_counts_codes_by_how_much_they_carry() -> None:
    assert perplexity(torch.tensor([0, 1, 2, 3]), 8) == pytest.approx(4)
    assert perplexity(torch.tensor([5, 5, 5]), 8) == pytest.approx(1)
    assert perplexity(torch.tensor([0, 0, 1]), 2) == pytest.approx(27 ** (1 / 3) / 4 ** (1 / 3))
