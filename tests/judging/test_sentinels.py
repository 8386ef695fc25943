"""Sentinels answer as they should, and the gate closes when a metric is broken."""

import numpy as np
import pytest
import torch

from salon.codecs import PixelCodec
from salon.data.dataset import CaptionedImages
from salon.errors import GateError
from salon.images import to_float
from salon.judging.alike import Alike
from salon.judging.features import Extractors
from salon.judging.fidelity import blends, kid, neighbours
from salon.judging.metrics import better_than_real, sentinel_rules, withholdable
from salon.judging.record import Gate, Judgement, SplitFigures
from salon.judging.sentinel_rules import AnyRule, Near, Rule
from salon.judging.sentinel_rules import check_rules as check
from salon.judging.sentinels import NAMES, CaptionIndex, Sentinels, derange
from salon.judging.statistics import Estimate
from salon.judging.views import SMOOTHED

RULES, ATTRIBUTE_RULES = (sentinel_rules(attributes=attributes, codecs=["a"]) for attributes in (False, True))
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
SENTINELS = Sentinels(Alike(TRAINING))


def rows_in_training(pictures: torch.Tensor) -> list[int]:
    return [int((TRAINING.images == picture).all(dim=(1, 2, 3)).nonzero()[0]) for picture in pictures]


def test_the_ceiling_is_the_real_picture_and_then_others_of_its_kind() -> None:
    assert torch.equal(SENTINELS.answer("real", PROMPTS, seed=0), PROMPTS.images)
    again = rows_in_training(SENTINELS.answer("real", PROMPTS, seed=0, repeat=1))
    assert [TRAINING.attributes[row] for row in again] == PROMPTS.attributes


def test_nobody_sees_faint_noise_and_jpeg_and_everybody_sees_a_blend() -> None:
    def psnr(name: str) -> float:
        error = SENTINELS.answer(name, PROMPTS, seed=0).double() - PROMPTS.images.double()
        return float(10 * torch.log10(255**2 / error.square().mean()))

    assert 41 < psnr("faint") < 44
    assert psnr("jpeg") > 34
    assert psnr("blend") < 25


def test_gaps_leave_a_quarter_of_the_concepts_out_and_are_real_pictures() -> None:
    pictures = SENTINELS.answer("gaps", PROMPTS, seed=0)
    own = (pictures == PROMPTS.images).all(dim=(1, 2, 3)).tolist()
    lost = {row["colour"] for row, kept in zip(PROMPTS.attributes, own, strict=True) if not kept}
    assert len(lost) == 1  # of four
    shown = rows_in_training(pictures[[row for row, kept in enumerate(own) if not kept]])
    assert not lost & {TRAINING.attributes[row]["colour"] for row in shown}


def test_a_codec_is_a_sentinel_of_its_own() -> None:
    sentinels = Sentinels(Alike(TRAINING), {"pixels": PixelCodec()})
    assert sentinels.names == (*NAMES, "codec-pixels")
    assert torch.equal(sentinels.answer("codec-pixels", PROMPTS, seed=0), PROMPTS.images)


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
    sentinels = Sentinels(Alike(training))
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
    figures = {  # alignment, novel alignment, likeness lost, precision to coverage, diversity, copies
        "real": (0.99, 0.98, 0.00, 0.9, 1.0, 0.01),
        "faint": (0.99, 0.98, 0.01, 0.9, 1.0, 0.01),
        "jpeg": (0.99, 0.98, 0.02, 0.9, 1.0, 0.01),
        "blend": (0.10, 0.98, 1.00, 0.1, 1.4, 0.01),
        "gaps": (0.75, 0.98, 0.20, 0.7, 1.6, 0.01),
        "copycat": (0.99, 0.40, 0.00, 0.9, 1.0, 0.99),
        "retrieval": (0.98, 0.40, 0.00, 0.9, 0.0, 0.98),
        "shuffled": (0.01, 0.01, 0.00, 0.9, 3.0, 0.01),
        "noise": (0.00, 0.00, 4.90, 0.0, 0.0, 0.00),
        "codec-a": (0.99, 0.98, 0.40, 0.3, 1.0, 0.01),
        "memoriser-a": (0.99, 0.40, 0.40, 0.3, 1.0, 0.99),
    }
    return {
        name: {
            "test/alignment/all": estimate(right),
            "test/r_precision": estimate(right),
            **{f"test/{key}": estimate(lost) for key in ("likeness", "likeness_again", "texture")},
            **{f"test/{key}": estimate(inside) for key in ("precision", "recall", "density", "coverage")},
            **{f"test/{key}": estimate(diverse) for key in ("diversity", "factor_diversity")},
            "novel/a_x_b/alignment/all": estimate(novel),
            "memorisation/copy_rate": estimate(copies),
            "memorisation/nearer": estimate(0.5 + copies / 2),
            "memorisation/drawing": estimate(right),
            "memorisation/another_drawing": estimate(0.9 - 0.9 * right),
        }
        for name, (right, novel, lost, inside, diverse, copies) in figures.items()
    }


def spoil(metrics: Figures, rule: AnyRule) -> list[str]:
    """Make the sentinels that the rule speaks of alike in its metric, or unlike; their names."""
    path = rule.metric.replace("*", "a_x_b")
    if isinstance(rule, Near):
        away = metrics[rule.other][path].value - 1.01 * rule.within
        metrics[rule.sentinel][path] = estimate(away)
        return [rule.sentinel, rule.other]
    if isinstance(rule, Rule):
        sentinels, value = [rule.better, rule.worse], 0.5
    else:
        sentinels, value = [rule.sentinel], 0.7 if rule.at_least < 0.5 < rule.at_most else 0.5
    for sentinel in sentinels:
        metrics[sentinel][path] = estimate(value)
    return sentinels


def test_the_gate_is_open_when_every_sentinel_stands_where_it_must() -> None:
    kept = check_rules(make_metrics()).rules
    assert len(kept) == len(ATTRIBUTE_RULES)
    assert "test/likeness: real 0 (-0.02 to 0.02) must be below noise 4.9 (4.88 to 4.92)" in kept
    assert "test/likeness: jpeg 0.02 (0 to 0.04) must lie within 0.05 of real 0 (-0.02 to 0.02)" in kept


@pytest.mark.parametrize("rule", ATTRIBUTE_RULES, ids=str)
def test_each_rule_closes_the_gate_and_names_the_metric_and_the_sentinels(rule: AnyRule) -> None:
    metrics = make_metrics()
    sentinels = spoil(metrics, rule)
    with pytest.raises(GateError) as closed:
        check_rules(metrics)
    assert rule.metric.replace("*", "a_x_b") in str(closed.value)
    assert all(sentinel in str(closed.value) for sentinel in sentinels)


def test_without_attributes_real_pictures_need_not_be_understood_in_full() -> None:
    metrics = make_metrics()
    metrics["real"]["test/alignment/all"] = estimate(0.7)  # captions that would fit several pictures
    assert len(check_rules(metrics, RULES).rules) == len(RULES)
    with pytest.raises(GateError, match="1 of"):
        check_rules(metrics)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_metric_that_may_be_withheld_does_not_close_the_gate_and_any_other_does(rule: AnyRule) -> None:
    metrics = make_metrics()
    spoil(metrics, rule)
    path = rule.metric.replace("*", "a_x_b")
    if path not in MANIFOLD:
        with pytest.raises(GateError, match=path):
            check_rules(metrics, RULES, may_withhold=MANIFOLD)
        return
    found = check_rules(metrics, RULES, may_withhold=MANIFOLD)
    assert found.withheld.keys() == {path}
    assert found.withheld[path].startswith(f"{path}: ")
    with pytest.raises(GateError, match=path):  # with attributes
        check_rules(metrics)


def test_a_memoriser_that_the_copy_test_does_not_find_through_a_codec_closes_the_gate() -> None:
    metrics = make_metrics()
    metrics["memoriser-a"]["memorisation/copy_rate"] = Estimate(0.0, 0.0, 1.0, 500)  # as of what sees nothing
    with pytest.raises(GateError, match=r"copy_rate: real .* must be below memoriser-a"):
        check_rules(metrics)
    metrics = make_metrics()
    metrics["memoriser-a"]["memorisation/nearer"] = estimate(0.55)
    with pytest.raises(GateError, match=r"nearer: memoriser-a .* must be at least 0\.9"):
        check_rules(metrics)


def test_without_shadows_less_is_asked_of_the_copy_test_and_of_one_that_sees_nothing_no_more() -> None:
    def of_copies(**known: bool) -> list[AnyRule]:
        rules = sentinel_rules(attributes=True, codecs=["a"], **known)
        return [rule for rule in rules if rule.metric.startswith("memorisation/")]

    assert {rule.metric for rule in of_copies(shadows=False)} == {"memorisation/copy_rate"}
    assert of_copies(shadows=False, sees_copies=False) == []
    assert of_copies(sees_copies=False) == of_copies()  # with shadows it must see


def test_a_sentinel_that_was_not_measured_closes_the_gate() -> None:
    metrics = make_metrics()
    del metrics["noise"]["test/likeness"]
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
    rng = np.random.default_rng(0)
    damage = kid(embed(blends(PROMPTS.images)), held_out, bootstrap_samples=1, rng=rng).value
    figures: Figures = {}
    for name in NAMES:
        seen = embed(SENTINELS.answer(name, PROMPTS, seed=0))
        far = kid(seen, held_out, bootstrap_samples=200, rng=rng)
        likeness = Estimate(far.value / damage, far.low / damage, far.high / damage, far.n)
        found = vars(neighbours(seen, held_out, bootstrap_samples=200, seed=0)) | {"likeness": likeness}
        figures[name] = {f"test/{metric}": value for metric, value in found.items()}
    return figures


FIDELITY_RULES = [
    rule
    for rule in sentinel_rules(attributes=False)
    if rule.metric in {f"test/{name}" for name in ("likeness", "precision", "recall", "density", "coverage")}
]


def test_real_metrics_on_real_sentinels_open_the_gate_and_a_broken_one_closes_it() -> None:
    extractors = Extractors()

    def smoothed(images: torch.Tensor) -> torch.Tensor:
        return extractors.extract(images, SMOOTHED, seed=0)

    metrics = judge_fidelity(smoothed)
    assert len(check_rules(metrics, FIDELITY_RULES).rules) == len(FIDELITY_RULES)

    blind = judge_fidelity(lambda images: torch.randn(len(images), 8))
    with pytest.raises(GateError, match=r"test/coverage: real .* must be above gaps"):
        check_rules(blind, FIDELITY_RULES)

    for found in metrics.values():
        lost = found["test/likeness"]
        found["test/likeness"] = Estimate(-lost.value, -lost.high, -lost.low, lost.n)
    with pytest.raises(GateError, match=r"test/likeness: real .* must be below noise"):
        check_rules(metrics, FIDELITY_RULES)


def test_features_that_see_invisible_noise_close_the_gate() -> None:
    """The sharpest difference between neighbouring pixels: what today's eye for texture does in small."""

    def edges(images: torch.Tensor) -> torch.Tensor:
        return 20 * to_float(images).diff(dim=3).abs().mean(dim=(2, 3))

    with pytest.raises(GateError, match=r"faint .* must lie within 0\.05 of real"):
        check_rules(judge_fidelity(edges), FIDELITY_RULES)


def test_what_beats_real_pictures_is_withheld_with_the_reason() -> None:
    def judged(**metrics: float) -> Judgement:
        share = {"all": Estimate(1.0, 0.9, 1.0, 50)}
        figures = {name: Estimate(value, value - 0.02, value + 0.02, 50) for name, value in metrics.items()}
        return Judgement({"test": SplitFigures(share, metrics=figures)})

    real = judged(likeness=0.0, precision=0.9, diversity=1.0)
    assert better_than_real(judged(likeness=-0.03, precision=0.93, diversity=0.4), real) == {}
    found = better_than_real(judged(likeness=-0.05, precision=0.95, diversity=1.1), real)
    assert found.keys() == {"test/likeness", "test/precision", "test/diversity"}
    assert (
        "1.1 (1.08 to 1.12) is better than that of real pictures, 1 (0.98 to 1.02)" in found["test/diversity"]
    )
