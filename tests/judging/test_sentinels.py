"""Sentinels answer as they should, and the gate closes when a metric is broken."""

import numpy as np
import pytest
import torch

from salon.data.dataset import CaptionedImages
from salon.errors import GateError
from salon.images import to_float
from salon.judging.fidelity import fidelity
from salon.judging.metrics import sentinel_rules, withholdable
from salon.judging.record import Gate
from salon.judging.sentinel_rules import Bound, Rule
from salon.judging.sentinel_rules import check_rules as check
from salon.judging.sentinels import NAMES, CaptionIndex, Sentinels, derange
from salon.judging.statistics import Estimate

RULES, ATTRIBUTE_RULES = (sentinel_rules(attributes=attributes) for attributes in (False, True))
MANIFOLD = withholdable()
COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 60, 220), "grey": (128, 128, 128)}
SHAPES = ("bar", "block")


def draw(colour: str, shape: str, rng: np.random.Generator) -> np.ndarray:
    picture = np.full((16, 16, 3), 250) + rng.integers(-5, 5, size=3)
    top, left = rng.integers(1, 7, size=2)
    height, width = (8, 3) if shape == "bar" else (6, 6)
    picture[top : top + height, left : left + width] = COLOURS[colour]
    return picture.clip(0, 255).astype(np.uint8)


def make_split(count: int, *, seed: int, attributes: bool = True) -> CaptionedImages:
    rng = np.random.default_rng(seed)
    rows = [
        {"colour": str(rng.choice(list(COLOURS))), "shape": str(rng.choice(SHAPES))} for _ in range(count)
    ]
    pictures = np.stack([draw(row["colour"], row["shape"], rng) for row in rows])
    return CaptionedImages(
        ids=[f"{seed}-{i}" for i in range(count)],
        images=torch.from_numpy(pictures).permute(0, 3, 1, 2),
        captions=[f"a {row['colour']} {row['shape']}" for row in rows],
        langs=["en"] * count,
        attributes=rows if attributes else [{}] * count,
    )


TRAINING, PROMPTS = make_split(300, seed=0), make_split(100, seed=1)
SENTINELS = Sentinels(TRAINING)


def rows_in_training(pictures: torch.Tensor) -> list[int]:
    return [int((TRAINING.images == picture).all(dim=(1, 2, 3)).nonzero()[0]) for picture in pictures]


def test_the_ceiling_is_the_real_picture_and_then_others_of_its_kind() -> None:
    assert torch.equal(SENTINELS.answer("real", PROMPTS, seed=0), PROMPTS.images)
    again = rows_in_training(SENTINELS.answer("real", PROMPTS, seed=0, repeat=1))
    assert [TRAINING.attributes[row] for row in again] == PROMPTS.attributes


def test_the_copycat_copies_what_was_asked_for_another_picture_each_time() -> None:
    first, second = (
        rows_in_training(SENTINELS.answer("copycat", PROMPTS, seed=0, repeat=repeat)) for repeat in (0, 1)
    )
    assert [TRAINING.attributes[row] for row in first] == PROMPTS.attributes
    assert np.mean([a != b for a, b in zip(first, second, strict=True)]) > 0.8


def test_retrieval_finds_the_nearest_caption_and_always_the_same() -> None:
    first = SENTINELS.answer("retrieval", PROMPTS, seed=0)
    assert torch.equal(first, SENTINELS.answer("retrieval", PROMPTS, seed=7, repeat=3))
    assert [TRAINING.captions[row] for row in rows_in_training(first)] == PROMPTS.captions


def test_nearest_captions_weigh_rare_words_most() -> None:
    index = CaptionIndex(["a red bar", "a red bar", "a green bar", "the octopus", "Осьминог на фоне"])
    asked = ["red bar", "an octopus bar", "осьминог", "nothing known at all"]
    assert index.nearest(asked[:3]).tolist() == [0, 3, 4]
    assert 0 <= int(index.nearest(asked[3:])) < 5


def test_shuffling_leaves_no_picture_in_its_place_and_loses_none() -> None:
    order = derange(PROMPTS.captions, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(100))
    assert all(place != row for place, row in enumerate(order.tolist()))


def test_without_ground_truth_the_captions_decide() -> None:
    training, prompts = make_split(50, seed=2, attributes=False), make_split(20, seed=3, attributes=False)
    sentinels = Sentinels(training)
    retrieved = sentinels.answer("retrieval", prompts, seed=0)
    for name in NAMES:
        assert sentinels.answer(name, prompts, seed=0).shape == prompts.images.shape
    assert torch.equal(sentinels.answer("copycat", prompts, seed=0), retrieved)


Figures = dict[str, dict[str, Estimate]]


def estimate(value: float, margin: float = 0.02) -> Estimate:
    return Estimate(value, value - margin, value + margin, 500)


def check_rules(figures: Figures, rules=ATTRIBUTE_RULES, **options) -> Gate:
    keyed = {
        name: {tuple(path.split("/")): value for path, value in found.items()}
        for name, found in figures.items()
    }
    return check(keyed, rules, **options)


def make_metrics() -> Figures:
    """Figures as they come out when nothing is broken."""
    figures = {  # alignment, novel alignment, kid, precision to coverage, diversity, copies
        "real": (0.99, 0.98, 0.00, 0.9, 1.0, 0.01),
        "copycat": (0.99, 0.40, 0.00, 0.9, 1.0, 0.99),
        "retrieval": (0.98, 0.40, 0.00, 0.9, 0.0, 0.98),
        "shuffled": (0.01, 0.01, 0.00, 0.9, 3.0, 0.01),
        "noise": (0.00, 0.00, 0.90, 0.0, 0.5, 0.00),
    }
    return {
        name: {
            "test/alignment/all": estimate(right),
            "test/r_precision": estimate(right),
            "test/kid": estimate(kid),
            **{f"test/{key}": estimate(inside) for key in ("precision", "recall", "density", "coverage")},
            "test/diversity": estimate(diverse),
            "novel/a_x_b/alignment/all": estimate(novel),
            "memorisation/copy_rate": estimate(copies),
        }
        for name, (right, novel, kid, inside, diverse, copies) in figures.items()
    }


def spoil(metrics: Figures, rule: Rule | Bound) -> list[str]:
    """Make the sentinels that the rule speaks of alike in its metric; their names."""
    sentinels = [rule.sentinel] if isinstance(rule, Bound) else [rule.better, rule.worse]
    for sentinel in sentinels:
        metrics[sentinel][rule.metric.replace("*", "a_x_b")] = estimate(0.5)
    return sentinels


def test_the_gate_is_open_when_every_sentinel_stands_where_it_must() -> None:
    kept = check_rules(make_metrics()).rules
    assert len(kept) == len(ATTRIBUTE_RULES)
    assert "test/kid: real 0 (-0.02 to 0.02) must be below noise 0.9 (0.88 to 0.92)" in kept


@pytest.mark.parametrize("rule", ATTRIBUTE_RULES, ids=str)
def test_each_rule_closes_the_gate_and_names_the_metric_and_the_sentinels(rule: Rule | Bound) -> None:
    metrics = make_metrics()
    sentinels = spoil(metrics, rule)
    with pytest.raises(GateError) as closed:
        check_rules(metrics)
    assert rule.metric.replace("*", "a_x_b") in str(closed.value)
    assert all(sentinel in str(closed.value) for sentinel in sentinels)


def test_without_attributes_real_pictures_need_not_be_understood_in_full() -> None:
    metrics = make_metrics()
    metrics["real"]["test/alignment/all"] = estimate(0.7)  # captions that would fit several pictures
    metrics["real"]["test/diversity"] = estimate(0.0)  # one real picture a caption
    assert len(check_rules(metrics, RULES).rules) == len(RULES)
    with pytest.raises(GateError, match="2 of"):
        check_rules(metrics)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_metric_that_may_be_withheld_does_not_close_the_gate_and_any_other_does(rule: Rule | Bound) -> None:
    metrics = make_metrics()
    spoil(metrics, rule)
    path = rule.metric.replace("*", "a_x_b")
    if path not in MANIFOLD:
        with pytest.raises(GateError, match=path):
            check_rules(metrics, RULES, may_withhold=MANIFOLD)
        return
    found = check_rules(metrics, RULES, may_withhold=MANIFOLD)
    assert found.withheld == {path: f"{path}: real 0.5 (0.48 to 0.52) must be above noise 0.5 (0.48 to 0.52)"}
    assert len(found.rules) == len(RULES) - 1
    assert not any(path in sentence for sentence in found.rules)
    with pytest.raises(GateError, match=path):  # with attributes
        check_rules(metrics)


def test_a_sentinel_that_was_not_measured_closes_the_gate() -> None:
    metrics = make_metrics()
    del metrics["noise"]["test/kid"]
    with pytest.raises(GateError, match="must be below noise not measured"):
        check_rules(metrics)


def test_a_figure_that_is_no_number_closes_the_gate() -> None:
    metrics = make_metrics()
    metrics["real"]["test/recall"] = estimate(float("nan"))
    with pytest.raises(GateError, match="test/recall"):
        check_rules(metrics)


def judge_fidelity(embed) -> Figures:
    """Sentinels through the real KID, precision, recall, density and coverage."""
    held_out = embed(make_split(100, seed=5).images)
    figures = {
        name: vars(
            fidelity(embed(SENTINELS.answer(name, PROMPTS, seed=0)), held_out, bootstrap_samples=200, seed=0)
        )
        for name in NAMES
    }
    return {
        name: {f"test/{metric}": value for metric, value in found.items()} for name, found in figures.items()
    }


FIDELITY_RULES = [
    rule
    for rule in RULES
    if rule.metric in {f"test/{name}" for name in ("kid", "precision", "recall", "density", "coverage")}
]


def test_real_metrics_on_real_sentinels_open_the_gate_and_a_broken_one_closes_it() -> None:
    def pixels(images: torch.Tensor) -> torch.Tensor:
        return to_float(images).flatten(1)

    metrics = judge_fidelity(pixels)
    assert len(check_rules(metrics, FIDELITY_RULES).rules) == len(FIDELITY_RULES)

    blind = judge_fidelity(lambda images: 0 * pixels(images) + torch.randn(len(images), 1))
    with pytest.raises(GateError, match=r"test/kid: real .* must be below noise"):
        check_rules(blind, FIDELITY_RULES)

    for found in metrics.values():
        kid = found["test/kid"]
        found["test/kid"] = Estimate(-kid.value, -kid.high, -kid.low, kid.n)
    with pytest.raises(GateError, match="4 of 8 rules"):
        check_rules(metrics, FIDELITY_RULES)
