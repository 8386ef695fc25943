"""Scorer, alignment and intervals against known answers."""

import numpy as np
import pytest
import torch

from salon.errors import SalonError
from salon.judging.alignment import Judged, alignment
from salon.judging.classifier import AttributeScorer, LabelledImages, accuracy, degrade, is_for_training
from salon.judging.statistics import bootstrap_mean

LABELS = {"colour": ["red", "green"], "half": ["left", "right"]}


def make_pictures(count: int, seed: int) -> tuple[torch.Tensor, list[dict[str, str]]]:
    """A red or green patch on the left or right half, with noise."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.full((count, 3, 16, 16), -1.0)
    rows = []
    for i in range(count):
        colour, half = torch.randint(2, (2,), generator=generator).tolist()
        images[i, colour, 4:12, 2 + 8 * half : 6 + 8 * half] = 1
        rows.append({"colour": LABELS["colour"][colour], "half": LABELS["half"][half]})
    return images + 0.1 * torch.randn(images.shape, generator=generator), rows


def test_scorer_learns_and_survives_saving(tmp_path) -> None:
    torch.manual_seed(0)
    scorer = AttributeScorer(LABELS, width=8)
    images, rows = make_pictures(256, seed=1)
    batch = LabelledImages(images, scorer.targets(rows))
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(scorer.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        scorer.losses(batch, objective="model", generator=generator).total.backward()
        optimizer.step()
    scorer.eval()
    fresh, truth = make_pictures(200, seed=2)
    pixels = ((fresh.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    assert accuracy(scorer.judge(pixels), truth)["all"] > 0.97

    scorer.save_pretrained(tmp_path)
    assert AttributeScorer.from_pretrained(tmp_path).judge(pixels) == scorer.judge(pixels)


def test_loading_an_empty_folder_says_what_to_run(tmp_path) -> None:
    with pytest.raises(SalonError, match="run the scorer stage first"):
        AttributeScorer.from_pretrained(tmp_path)


def test_accuracy_by_hand() -> None:
    truth = [{"a": "x", "b": "p"}, {"a": "x", "b": "q"}, {"a": "y", "b": "p"}, {"a": "y", "b": "q"}]
    seen = [{"a": "x", "b": "p"}, {"a": "x", "b": "p"}, {"a": "y", "b": "p"}, {"a": "x", "b": "p"}]
    assert accuracy(seen, truth) == {"a": 0.75, "b": 0.5, "all": 0.5}


def test_roughening_keeps_the_picture_recognisable_and_changes_it() -> None:
    images, _ = make_pictures(8, seed=3)
    rough = degrade(images, torch.Generator().manual_seed(0))
    assert rough.shape == images.shape
    assert not torch.equal(rough, images)
    assert (rough - images).abs().mean() < 0.3


def test_half_of_the_novel_pictures_train_the_scorer() -> None:
    ids = [f"{i:016x}" for i in range(1000)]
    assert sum(map(is_for_training, ids)) == 500


def make_judged(right: list[tuple[bool, bool]]) -> list[Judged]:
    return [
        Judged(
            id=str(i),
            caption="",
            lang="en",
            wanted={"a": "x", "b": "p"},
            seen={"a": "x" if a else "y", "b": "p" if b else "q"},
        )
        for i, (a, b) in enumerate(right)
    ]


def test_alignment_by_hand() -> None:
    judged = make_judged([(True, True)] * 60 + [(True, False)] * 30 + [(False, True)] * 10)
    found = alignment(judged, bootstrap_samples=500, seed=0)
    assert {name: estimate.value for name, estimate in found.items()} == pytest.approx(
        {"a": 0.9, "b": 0.7, "all": 0.6}
    )
    assert all(e.low < e.value < e.high and e.n == 100 for e in found.values())


def test_bootstrap_width_is_that_of_the_binomial() -> None:
    values = np.array([1] * 800 + [0] * 200)
    estimate = bootstrap_mean(values, samples=20_000, rng=np.random.default_rng(0))
    half_width = 1.96 * np.sqrt(0.8 * 0.2 / 1000)
    assert estimate.high - estimate.value == pytest.approx(half_width, rel=0.06)
    assert estimate.value - estimate.low == pytest.approx(half_width, rel=0.06)


def test_bootstrap_of_continuous_values_has_the_width_of_the_mean() -> None:
    values = np.random.default_rng(1).normal(5, 2, size=400)
    estimate = bootstrap_mean(values, samples=5_000, rng=np.random.default_rng(0))
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.06)


def test_intervals_cover_the_truth_in_95_of_100_draws() -> None:
    rng = np.random.default_rng(2)
    covered = [
        (e := bootstrap_mean(rng.random(300) < 0.85, samples=1000, rng=rng)).low <= 0.85 <= e.high
        for _ in range(1000)
    ]
    assert 0.93 <= np.mean(covered) <= 0.97


def test_a_perfect_score_still_has_an_interval() -> None:
    """Clopper-Pearson: 100 of 100 leaves room down to 0.025 ** (1 / 100)."""
    perfect = bootstrap_mean(np.ones(100), samples=200, rng=np.random.default_rng(0))
    assert (perfect.value, perfect.high) == (1, 1)
    assert perfect.low == pytest.approx(0.025 ** (1 / 100))
    hopeless = bootstrap_mean(np.zeros(100), samples=200, rng=np.random.default_rng(0))
    assert (hopeless.value, hopeless.low) == (0, 0)
    assert hopeless.high == pytest.approx(1 - 0.025 ** (1 / 100))


def test_no_values_no_estimate() -> None:
    with pytest.raises(ValueError, match="no values"):
        bootstrap_mean(np.array([]), samples=10, rng=np.random.default_rng(0))
