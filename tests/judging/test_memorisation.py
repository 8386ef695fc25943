"""The copy test against planted copies."""

import numpy as np
import pytest
import torch

from salon.judging.memorisation import CopyTest, make_canaries

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


TRAINING = draw_scenes(4000, seed=0)


@pytest.fixture(scope="module")
def copy_test() -> CopyTest:
    return CopyTest(TRAINING, draw_scenes(1500, seed=1), seed=0)


@pytest.mark.parametrize("rate", [0.0, 0.002, 0.01, 0.05, 0.2])
def test_planted_copies_are_recovered_with_intervals_that_cover_the_truth(copy_test, rate: float) -> None:
    covered, values = [], []
    for draw in range(60):
        g = torch.Generator().manual_seed(draw)
        pictures = draw_scenes(500, seed=1000 + draw)
        planted = round(rate * len(pictures))
        originals = TRAINING[torch.randint(len(TRAINING), (planted,), generator=g)]
        pictures[:planted] = make_canaries(originals, generator=g) if planted else originals
        verdict = copy_test.judge(pictures, bootstrap_samples=1000)
        covered.append(verdict.copy_rate.low <= rate <= verdict.copy_rate.high)
        values.append(verdict.copy_rate.value)
    assert np.mean(covered) >= 0.9
    assert np.mean(values) == pytest.approx(rate, abs=0.006)


def test_what_is_said_to_be_detectable_is_detected(copy_test) -> None:
    """A rate above the stated one has an interval that excludes zero in four of five repetitions."""
    stated = copy_test.judge(TRAINING[:500], bootstrap_samples=100).detectable_rate
    assert stated < 0.02
    planted, seen = int(1.25 * stated * 500), []
    for draw in range(60):
        pictures = draw_scenes(500, seed=2000 + draw)
        pictures[:planted] = TRAINING[draw : draw + planted]
        seen.append(copy_test.judge(pictures, bootstrap_samples=1000).copy_rate.low > 0)
    assert np.mean(seen) >= 0.75


def test_flagging_less_than_expected_by_mistake_is_no_proof_of_no_copies(copy_test) -> None:
    """Fewer pictures flagged than false alarms: the interval still reaches as far as n pictures can tell."""
    honest = draw_scenes(500, seed=7)
    quiet = honest[copy_test.ratios(honest).ratio > copy_test.threshold][:480]
    none = copy_test.judge(quiet, bootstrap_samples=2000)
    assert (none.flagged, none.copy_rate.value, none.copy_rate.low) == (0, 0, 0)
    # the exact bound of 0 of n is 3.7/n; Jeffreys' prior takes a little off
    assert 3.0 / 480 < none.copy_rate.high < 3.7 / 480
    fewer = copy_test.judge(quiet[:120], bootstrap_samples=2000)
    assert fewer.copy_rate.high == pytest.approx(4 * none.copy_rate.high, rel=0.1)


def test_kept_and_read_again_it_judges_alike(copy_test) -> None:
    again = CopyTest.from_tensors(copy_test.to_tensors())
    pictures = torch.cat([draw_scenes(300, seed=8), TRAINING[:30]])
    assert again.judge(pictures, bootstrap_samples=200) == copy_test.judge(pictures, bootstrap_samples=200)


def test_a_copycat_is_all_copies_and_the_pairs_name_the_originals(copy_test) -> None:
    verdict = copy_test.judge(TRAINING[100:300], bootstrap_samples=200, pairs=5)
    assert verdict.copy_rate.low > 0.95
    assert verdict.flagged == 1
    assert all(pair.training == pair.generated + 100 and pair.ratio < 0.01 for pair in verdict.closest)


def test_blurred_pictures_that_copy_nothing_are_not_accused(copy_test) -> None:
    """A plain distance test would find them nearer to everything, a mean over pictures above all."""
    drawings = draw_scenes(500, seed=3).float()
    soft = torch.nn.functional.avg_pool2d(drawings, 5, stride=1, padding=2, count_include_pad=False)
    assert copy_test.judge(soft.round().byte(), bootstrap_samples=500).copy_rate.low == 0


def test_a_picture_with_five_captions_does_not_hide_its_copies() -> None:
    training = draw_scenes(400, seed=4).repeat_interleave(5, dim=0)
    test = CopyTest(training, draw_scenes(300, seed=5), seed=0)
    verdict = test.judge(training[::5], bootstrap_samples=200, pairs=3)
    assert verdict.copy_rate.low > 0.95
    assert all(pair.training == 5 * pair.generated for pair in verdict.closest)


def test_too_few_held_out_pictures_are_refused() -> None:
    with pytest.raises(ValueError, match="100 are needed"):
        CopyTest(TRAINING, draw_scenes(20, seed=1), seed=0)
