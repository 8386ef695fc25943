"""The copy test against planted copies: through no codec, a blurring one, and where nothing is rendered."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from salon.data.dataset import CaptionedImages
from salon.images import to_float, to_uint8
from salon.judging import memorisation
from salon.judging.memorisation import Channel, CopyTest, distinct_rows, thumbnails
from salon.judging.record import CopyFigures

SIDE = 16


def draw_scenes(count: int, *, seed: int) -> torch.Tensor:
    """Coloured discs on coloured ground; place, size and colours vary, so that no two are alike."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.arange(SIDE).float()
    x, y = (4 + 8 * torch.rand(2, count, 1, 1, generator=g)).unbind()
    radius = 2.5 + 3 * torch.rand(count, 1, 1, generator=g)
    ink, ground = 255 * torch.rand(2, count, 3, 1, 1, generator=g)
    distance = ((rows[None, :, None] - y) ** 2 + (rows[None, None] - x) ** 2).sqrt()
    disc = (radius - distance).clamp(-0.5, 0.5)[:, None] + 0.5  # a soft edge
    return (disc * ink + (1 - disc) * ground).round().to(torch.uint8)


TRAINING = draw_scenes(1200, seed=0)
SHADOWS = draw_scenes(1200, seed=1)
REPEATS = 20


def make_test(
    training: torch.Tensor = TRAINING, others: torch.Tensor = SHADOWS, *, channel: Channel | None = None
) -> CopyTest:
    rows = distinct_rows(training)
    nothing = [""] * len(training)
    known = CaptionedImages(nothing, training, nothing, nothing, [{}] * len(training))
    return CopyTest(thumbnails(training[rows]), rows, others, training=lambda: known, seed=0, channel=channel)


def coarse(images: torch.Tensor) -> torch.Tensor:
    """A codec that loses what lies between its cells, and moves what it keeps."""
    cells = F.avg_pool2d(to_float(images), 4)
    levels = (cells * 4).round() / 4
    return to_uint8(F.interpolate(levels, scale_factor=4, mode="bilinear").roll(1, dims=3))


CODEC = Channel(lambda rows: coarse(rows.images), coarse)
CHANNELS = {"pixels": (None, lambda images: images), "codec": (CODEC, coarse)}


@pytest.fixture(scope="module", params=sorted(CHANNELS))
def through(request):
    """The test for a channel, and what the channel does."""
    channel, draw = CHANNELS[request.param]
    return make_test(channel=channel), draw


def plant(rate: float, draw, *, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    pictures = draw_scenes(500, seed=1000 + seed)
    planted = round(rate * len(pictures))
    pictures[:planted] = TRAINING[torch.randint(len(TRAINING), (planted,), generator=g)]
    return draw(pictures)


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.05, 0.2])
def test_planted_copies_are_recovered_with_intervals_that_cover_the_truth(through, rate: float) -> None:
    test, draw = through
    shares = [
        test.judge(plant(rate, draw, seed=seed), bootstrap_samples=1000).shares.copy_rate
        for seed in range(REPEATS)
    ]
    assert np.mean([share.low <= rate <= share.high for share in shares]) >= 0.9
    assert np.mean([share.value for share in shares]) == pytest.approx(rate, abs=0.008)


def test_without_memory_half_lie_nearer_to_training_whatever_they_went_through(through) -> None:
    test, draw = through
    found = [
        test.judge(plant(0, draw, seed=seed), bootstrap_samples=10).shares.nearer for seed in range(REPEATS)
    ]
    assert np.mean([share.value for share in found]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([share.low <= 0.5 <= share.high for share in found]) >= 0.9


def test_a_perfect_memoriser_is_found_through_its_codec(through) -> None:
    test, draw = through
    found = test.judge(draw(TRAINING[100:400]), bootstrap_samples=500, pairs=5)
    assert test.power > 0.8
    assert found.shares.copy_rate.low > 0.9
    assert found.shares.nearer.low > 0.9
    assert all(pair.training == pair.generated + 100 for pair in found.closest)


def test_a_codec_that_leaves_nothing_leaves_no_power_and_the_test_says_so() -> None:
    def blank(images: torch.Tensor) -> torch.Tensor:
        return torch.full_like(images, 128)

    test = make_test(channel=Channel(lambda rows: blank(rows.images), blank))
    found = test.judge(blank(TRAINING[:300]), bootstrap_samples=200)
    share = found.shares.copy_rate
    assert test.power == 0
    assert (share.value, share.low, share.high, found.detectable_rate) == (0, 0, 1, 1)


def test_blind_to_which_pool_is_which_it_finds_nothing(monkeypatch) -> None:
    """The metric broken on purpose: distances that know nothing of the pictures."""
    g = torch.Generator().manual_seed(0)
    monkeypatch.setattr(
        memorisation,
        "squared_distances",
        lambda left, right: torch.rand(len(left), len(right), generator=g),
    )
    found = make_test().judge(TRAINING[:300], bootstrap_samples=200).shares
    assert found.copy_rate.low == 0
    assert found.nearer.high < 0.6


def test_what_is_said_to_be_detectable_is_detected(through) -> None:
    """A rate above the stated one has an interval that excludes zero in four of five repetitions."""
    test, draw = through
    stated = test.judge(plant(0, draw, seed=0), bootstrap_samples=100).detectable_rate
    assert stated < 0.06
    found = [
        test.judge(plant(1.25 * stated, draw, seed=seed), bootstrap_samples=1000).shares.copy_rate
        for seed in range(REPEATS)
    ]
    assert np.mean([share.low > 0 for share in found]) >= 0.75


def test_blurred_pictures_that_copy_nothing_are_not_accused() -> None:
    """A plain distance test would find them nearer to everything, a mean over pictures above all."""
    soft = F.avg_pool2d(draw_scenes(500, seed=3).float(), 5, stride=1, padding=2, count_include_pad=False)
    found = make_test().judge(soft.round().byte(), bootstrap_samples=500).shares
    assert found.copy_rate.low == 0
    assert found.nearer.low < 0.5 < found.nearer.high


@pytest.mark.parametrize("held_out", [500, 1500])
def test_without_shadows_random_halves_find_copies_where_enough_is_held_out(held_out: int) -> None:
    test = make_test(others=draw_scenes(held_out, seed=5))
    assert test.power == pytest.approx(min(1, held_out / 1200), abs=0.1)
    shares = [
        test.judge(plant(rate, lambda images: images, seed=seed), bootstrap_samples=500).shares
        for rate in (0.0, 0.2)
        for seed in range(8)
    ]
    honest, copying = shares[:8], shares[8:]
    assert np.mean([share.nearer.value for share in honest]) == pytest.approx(0.5, abs=0.02)
    assert sum(share.copy_rate.low > 0 for share in honest) <= 1
    assert sum(share.copy_rate.low <= 0.2 <= share.copy_rate.high for share in copying) >= 7
    assert all(share.copy_rate.low > 0 for share in copying)


def test_where_few_pictures_are_held_out_it_sees_nothing_and_says_so() -> None:
    test = make_test(others=draw_scenes(20, seed=5))
    found = test.judge(draw_scenes(100, seed=6), bootstrap_samples=500)
    assert found.detectable_rate == 1
    assert (found.shares.copy_rate.value, found.shares.copy_rate.high) == (0, 1)


@pytest.mark.parametrize("shadows", [True, False])
def test_pictures_that_training_has_five_times_do_not_hide_their_copies(shadows: bool) -> None:
    training = draw_scenes(400, seed=4).repeat_interleave(5, dim=0)
    test = make_test(training, draw_scenes(400 if shadows else 300, seed=5))
    found = test.judge(training[::5], bootstrap_samples=200, pairs=3)
    assert found.shares.copy_rate.low > 0.85
    assert all(pair.training == 5 * pair.generated for pair in found.closest)


def test_near_duplicates_within_training_do_not_hide_their_copies() -> None:
    twins = (TRAINING[:600].float() + 1).clamp(max=255).byte()
    test = make_test(torch.cat([TRAINING[:600], twins]))
    assert test.judge(TRAINING[:300], bootstrap_samples=200).shares.copy_rate.low > 0.95


def test_one_picture_drawn_again_and_again_is_one_witness() -> None:
    """500 pictures of ten training pictures tell less than 500 of 500, and their interval says so."""
    often = make_test().judge(draw_scenes(10, seed=8).repeat_interleave(50, dim=0), bootstrap_samples=500)
    once = make_test().judge(draw_scenes(500, seed=9), bootstrap_samples=500)
    width = {n: each.shares.nearer.high - each.shares.nearer.low for n, each in ((10, often), (500, once))}
    assert width[10] > 4 * width[500]


def test_what_is_kept_is_read_again(through) -> None:
    test, draw = through
    found = {
        split: test.judge(plant(rate, draw, seed=0), bootstrap_samples=100)
        for split, rate in (("val", 0.0), ("test", 0.1), ("novel/a_x_b", 0.2))
    }
    figures = test.figures(found)
    assert figures.found
    assert figures.copy_rate == found["test"].shares.copy_rate
    assert set(figures.estimates()) == {
        (*place, name) for place in ((), ("val",), ("novel", "a_x_b")) for name in ("copy_rate", "nearer")
    }
    none = replace(figures, splits={"test": found["val"].shares})
    assert isinstance(none, CopyFigures)
    assert not none.found
