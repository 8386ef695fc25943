"""Fidelity against closed forms, brute force and an independent implementation; what smoothing hides."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchmetrics.image.kid import poly_mmd

from salon.judging.features import FEATURE_DIM, Extractors, FeatureExtractor
from salon.judging.fidelity import blends, kid, kid_terms, neighbours
from salon.judging.views import VIEWS


def gaussian(count: int, dim: int, *, seed: int, mean: float = 0.0, std: float = 1.0) -> torch.Tensor:
    return mean + std * torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def judge(generated: torch.Tensor, real: torch.Tensor):
    return neighbours(generated, real, bootstrap_samples=200, seed=0)


def test_kid_equals_an_independent_implementation() -> None:
    x, y = gaussian(40, 24, seed=0, mean=0.2).double(), gaussian(40, 24, seed=1, std=1.2).double()
    ours = kid(x, y, bootstrap_samples=100, rng=np.random.default_rng(0))
    assert ours.value == pytest.approx(poly_mmd(x, y, degree=3, gamma=None, coef=1.0).item(), rel=1e-9)


def test_the_terms_of_kid_are_each_picture_s_part_of_it_and_vary_as_it_does() -> None:
    y = gaussian(300, 8, seed=1)
    values, errors = [], []
    for seed in range(2, 102):
        x = gaussian(60, 8, seed=seed, mean=0.5)
        terms = kid_terms(x, y)
        values.append(kid(x, y, bootstrap_samples=1, rng=np.random.default_rng(0)).value)
        assert terms.mean() == pytest.approx(values[-1], rel=1e-9)
        errors.append(terms.std(ddof=1) / np.sqrt(len(x)))
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.25)


def test_kid_equals_a_loop_over_pairs_when_the_numbers_differ() -> None:
    x, y = gaussian(7, 5, seed=2), gaussian(11, 5, seed=3, mean=0.5)

    def mean(a, b, same: bool) -> float:
        pairs = [
            (float(p @ q) / 5 + 1) ** 3
            for i, p in enumerate(a)
            for j, q in enumerate(b)
            if not same or i != j
        ]
        return sum(pairs) / len(pairs)

    expected = mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)
    found = kid(x, y, bootstrap_samples=100, rng=np.random.default_rng(0))
    assert found.value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("mean", "std", "coverage"), [(0.4, 1.0, (0.90, 0.98)), (0.0, 1.0, (0.97, 1.0))])
def test_kid_of_two_gaussians_is_unbiased_and_its_intervals_cover(mean, std, coverage) -> None:
    """In one dimension MMD² = 3 (m1 - m1')² + 3 (m2 - m2')² + (m3 - m3')², with the raw moments m."""
    truth = 3 * mean**2 + 3 * (mean**2 + std**2 - 1) ** 2 + (mean**3 + 3 * mean * std**2) ** 2
    rng = np.random.default_rng(0)
    found = [
        kid(
            gaussian(80, 1, seed=2 * draw, mean=mean, std=std),
            gaussian(80, 1, seed=2 * draw + 1),
            bootstrap_samples=200,
            rng=rng,
        )
        for draw in range(400)
    ]
    values = np.array([estimate.value for estimate in found])
    assert values.mean() == pytest.approx(truth, abs=4 * values.std() / 20)
    low, high = coverage
    assert low <= np.mean([e.low <= truth <= e.high for e in found]) <= high


def test_one_and_the_same_distribution_scores_as_theory_says() -> None:
    """Expected density 1; expected coverage 1 - 2^-5 for equally many pictures (Naeem 2020, sec. 3.3)."""
    found = [judge(gaussian(300, 8, seed=2 * i), gaussian(300, 8, seed=2 * i + 1)) for i in range(8)]
    assert np.mean([f.density.value for f in found]) == pytest.approx(1, abs=0.05)
    assert np.mean([f.coverage.value for f in found]) == pytest.approx(1 - 2**-5, abs=0.01)
    precision, recall = ([getattr(f, name).value for f in found] for name in ("precision", "recall"))
    assert np.mean(precision) == pytest.approx(np.mean(recall), abs=0.03)


def test_neighbourhoods_equal_brute_force() -> None:
    x, y = gaussian(30, 3, seed=4, mean=0.7), gaussian(25, 3, seed=5)

    def reach(points, k):
        return [sorted(float((p - q).norm()) for q in points)[k] for p in points]

    def inside(points, centres, radii):
        return [[float((p - c).norm()) <= r for c, r in zip(centres, radii, strict=True)] for p in points]

    found = judge(x, y)
    of_real = inside(x, y, reach(y, 3))
    of_generated = inside(y, x, reach(x, 3))
    balls = inside(x, y, reach(y, 5))
    assert found.precision.value == pytest.approx(sum(map(any, of_real)) / 30)
    assert found.recall.value == pytest.approx(sum(map(any, of_generated)) / 25)
    assert found.density.value == pytest.approx(sum(map(sum, balls)) / (5 * 30))
    assert found.coverage.value == pytest.approx(sum(map(any, zip(*balls, strict=True))) / 25)


def test_each_figure_sees_its_own_fault() -> None:
    real = torch.cat([gaussian(150, 6, seed=0, mean=-4), gaussian(150, 6, seed=1, mean=4)])
    faithful = judge(torch.cat([gaussian(150, 6, seed=2, mean=-4), gaussian(150, 6, seed=3, mean=4)]), real)
    one_mode = judge(gaussian(300, 6, seed=4, mean=4), real)
    smeared = judge(torch.cat([gaussian(150, 6, seed=5), gaussian(150, 6, seed=6, mean=4)]), real)
    assert one_mode.precision.low > 0.7
    assert one_mode.recall.high < 0.6 < faithful.recall.low
    assert one_mode.coverage.high < 0.6 < faithful.coverage.low
    assert smeared.precision.high < 0.7 < faithful.precision.low
    assert smeared.density.high < faithful.density.low


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        judge(gaussian(5, 2, seed=0), gaussian(50, 2, seed=1))


def test_kid_over_drawings_knows_less_than_over_pictures_and_is_the_same_figure() -> None:
    """20 pictures of each of ten drawings, four of them missed: what others would give, nobody knows well."""
    rng, centres = np.random.default_rng(0), 0.3 * gaussian(10, 4, seed=0)
    drawings = np.repeat(np.arange(10), 20)
    missed = torch.from_numpy(drawings < 4)[:, None]
    x, y = (centres[drawings] + 0.1 * gaussian(200, 4, seed=seed) for seed in (1, 2))
    x = x + 1.5 * missed
    alone = kid(x, y, bootstrap_samples=500, rng=rng)
    together = kid(x, y, drawings=(drawings, drawings), bootstrap_samples=500, rng=rng)
    assert together.value == alone.value
    assert (alone.clusters, together.clusters) == (None, 10)
    assert together.high - together.low > 1.3 * (alone.high - alone.low)
    assert together.low < together.value < together.high


def test_a_blend_is_half_of_each_of_two() -> None:
    pictures = torch.tensor([0, 100, 200, 255], dtype=torch.uint8)[:, None, None, None].expand(4, 3, 2, 2)
    assert blends(pictures)[:, 0, 0, 0].tolist() == [100, 178, 100, 178]


@pytest.fixture(scope="module")
def eye() -> FeatureExtractor:
    return FeatureExtractor()


def test_features_do_not_depend_on_the_batch(eye) -> None:
    images = torch.randint(0, 256, (5, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    together, alone = eye.extract(images), eye.extract(images, batch_size=1)
    assert together.shape == (5, FEATURE_DIM)
    assert together.allclose(alone, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in eye.parameters())


def test_smoothing_hides_what_nobody_sees_and_not_a_blend(eye) -> None:
    rng = torch.Generator().manual_seed(0)
    coarse = torch.randint(0, 256, (24, 3, 4, 4), generator=rng).float()
    real = F.interpolate(coarse, size=32, mode="bilinear").byte()
    faint = (real + 2 * torch.randn(real.shape, generator=rng)).round().clamp(0, 255).byte()
    sharp, smooth = (
        [eye.extract(each, smoothing_seed=seed) for each in (real, faint, blends(real))] for seed in (None, 0)
    )
    moved_sharp, moved_smooth = ((a - b).norm() / (a - c).norm() for a, b, c in (sharp, smooth))
    assert moved_smooth < 0.5 * moved_sharp
    again = eye.extract(real, smoothing_seed=0)
    assert torch.equal(again, smooth[0])
    assert not torch.equal(eye.extract(real, smoothing_seed=1), again)


@pytest.mark.parametrize("view", VIEWS, ids=str)
def test_every_view_sees_pictures(view) -> None:
    found = Extractors().extract(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), view, seed=0)
    assert found.shape == (2, FEATURE_DIM)
    assert found.isfinite().all()


def test_the_network_is_really_pretrained(eye) -> None:
    """Its features tell a slight change of a picture from another picture; random weights hardly do."""
    rows = torch.linspace(0, 1, 32)
    stripes = (255 * (torch.sin(40 * rows)[None, :, None] > 0)).expand(3, 32, 32)
    disc = 255 * ((rows[:, None] - 0.5) ** 2 + (rows[None] - 0.5) ** 2 < 0.1).expand(3, 32, 32)
    shifted = disc.roll(1, dims=2)
    a, b, c = eye.extract(torch.stack([disc, shifted, stripes]).byte())
    assert (a - b).norm() < 0.6 * (a - c).norm()
