"""Diversity within a caption, and the reader of what varies: against truth that is planted."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ks_2samp

from salon.judging.diversity import ks_distance, spread_ratio, thumbnail_distances, within_caption_variance
from salon.judging.regressor import READABLE, FactorRegressor, standardise
from salon.judging.training_pool import FactorBatches

BOOTSTRAP = {"bootstrap_samples": 400, "seed": 0}


def several(spread: float, *, noise: float = 0.0, captions: int = 60, seed: int = 0) -> torch.Tensor:
    """Four pictures of each caption that differ in brightness from left to right, and in noise of pixels."""
    rng = torch.Generator().manual_seed(seed)
    ramp = torch.linspace(-1, 1, 32)
    slopes = spread * torch.randn(captions, 4, 1, 1, 1, generator=rng)
    pictures = 128 + slopes * ramp + noise * torch.randn(captions, 4, 3, 32, 32, generator=rng)
    return pictures.round().clamp(0, 255).byte()


def diversity(drawn: torch.Tensor, real: torch.Tensor, **options):
    return spread_ratio(thumbnail_distances(drawn), thumbnail_distances(real), **BOOTSTRAP | options)


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_diversity_is_the_share_of_the_real_spread(share: float) -> None:
    found = diversity(several(30 * share, seed=1), several(30))
    assert found.low < share < found.high
    assert found.value == pytest.approx(share, rel=0.2)


def test_one_picture_per_caption_has_none_and_neither_has_noise() -> None:
    real = several(20)
    one = real[:, :1].expand(-1, 4, -1, -1, -1)
    assert diversity(one, real).high == 0
    noise = torch.randint(0, 256, real.shape, generator=torch.Generator().manual_seed(0)).byte()
    assert diversity(noise, real).high < 0.3
    # plain distances between thumbnails would give noise half of what these have
    assert diversity(several(20, noise=30, seed=2), real).value == pytest.approx(1, abs=0.2)


def test_the_distance_by_hand() -> None:
    pictures = torch.zeros(1, 2, 3, 16, 16, dtype=torch.uint8)
    pictures[0, 1] = 51  # a fifth of the range of 2
    assert thumbnail_distances(pictures) == pytest.approx([0.4**2])


def test_captions_of_one_drawing_count_as_one() -> None:
    drawn, real = several(15, seed=1), several(30)
    labels = np.repeat(np.arange(6), 10)
    alone, together = diversity(drawn, real), diversity(drawn, real, clusters=labels)
    assert (alone.clusters, together.clusters) == (None, 6)
    assert alone.value == pytest.approx(together.value)


def test_variance_within_a_caption_leaves_that_between_captions_out() -> None:
    values = torch.tensor([[[1.0], [3.0]], [[101.0], [103.0]]])
    assert within_caption_variance(values).tolist() == [[2.0], [2.0]]


def test_ks_distance_equals_scipy_and_counts_ties_once() -> None:
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.7):
        drawn, real = rng.normal(shift, 1, 80).round(1), rng.normal(0, 1, 120).round(1)
        found = ks_distance(drawn, real, **BOOTSTRAP)
        assert found.value == pytest.approx(ks_2samp(drawn, real).statistic)
        assert found.low <= found.value <= found.high
    assert ks_distance(real, real, **BOOTSTRAP).value == pytest.approx(0)


def test_the_regressor_reads_what_can_be_read_and_says_what_it_cannot() -> None:
    rng = np.random.default_rng(0)
    drawn = pd.DataFrame({"light": rng.uniform(60, 200, 600), "unseen": rng.normal(size=600)})
    images = torch.tensor(drawn["light"].to_numpy().round()).byte()[:, None, None, None].expand(-1, 3, 16, 16)
    factors = standardise(drawn, drawn[:500], ["light", "unseen"])
    assert factors[:500].mean(dim=0).abs().max() < 1e-5
    torch.manual_seed(0)
    regressor = FactorRegressor({"light": 0.0, "unseen": 0.0}, width=4)
    source = FactorBatches(images[:500], factors[:500], batch_size=50, seed=0)
    optimizer = torch.optim.Adam(regressor.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(0)
    for step in range(80):
        batch = source.batch(source.rows(step), step=step)
        optimizer.zero_grad()
        regressor.losses(batch, objective="model", generator=generator).total.backward()
        optimizer.step()
    explained = regressor.eval().measure(images[500:], factors[500:])
    assert explained["light"] > 0.8
    assert explained["unseen"] < READABLE
    regressor.explained.update(explained)
    assert regressor.readable == ["light"]
    read = regressor.read(images[500:])
    assert read.shape == (100, 1)
    assert np.corrcoef(read[:, 0], drawn["light"][500:])[0, 1] > 0.9
