"""The recommendation on cases whose right answer is known."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from salon.cli import app
from salon.commands import recommend as stage
from salon.errors import SalonError
from salon.files import read_json, write_json
from salon.judging.metrics import LIKENESS
from salon.judging.record import CopyFigures, CopyShares, Cost, Judgement, SplitFigures
from salon.judging.statistics import Estimate
from salon.params import Params
from salon.paths import Paths
from salon.report.recommend import Constraints, Contender, Recommendation, nearest_to_real, recommend
from salon.report.recommendation_text import describe_recommendation
from tiny import write_tiny_params

PROMPTS = 400
TWO_CORES = ("cpu", 2)


def make_contender(
    name: str,
    right: float | np.ndarray,
    *,
    lost: tuple[float, float, float] = (0.5, 0.45, 0.55),
    latency_ms: float = 50,
    images_per_second: float = 80,
    train_minutes: float = 6,
    copies: float = 0.0,
    train_flops: float = 2.4e13,
    memory_gb: float = 1.0,
    machine: tuple[str, int] = TWO_CORES,
) -> Contender:
    scores = np.arange(PROMPTS) < right * PROMPTS if isinstance(right, float) else right
    estimate = Estimate(float(np.mean(scores)), 0.0, 1.0, PROMPTS)
    device, cores = machine
    return Contender(
        name=name,
        scores={f"p{i:03}": bool(score) for i, score in enumerate(scores)},
        judgement=Judgement(
            splits={
                "val": SplitFigures(
                    {"all": estimate}, metrics=dict.fromkeys(LIKENESS, Estimate(*lost, PROMPTS))
                ),
                "test": SplitFigures({"all": estimate}),
            },
            memorisation=CopyFigures(
                {
                    "test": CopyShares(
                        Estimate(copies, max(0, copies - 0.01), copies + 0.01, PROMPTS),
                        Estimate(0.5, 0.48, 0.52, PROMPTS),
                    )
                },
                power=0.99,
                detectable_rate=0.02,
            ),
            cost=Cost(
                train_flops=train_flops,
                train_minutes=train_minutes,
                parameters=1,
                training_parameters=0,
                images_seen=1,
                latency_ms_p50=latency_ms,
                latency_ms_p95=latency_ms,
                images_per_second_b16=images_per_second,
                peak_memory_gb=memory_gb,
                selection_flops=1,
                selection_minutes=1,
                picture_flops=1,
                device=device,
                cpu_cores=cores,
            ),
        ),
    )


def choose(*contenders: Contender, **constraints: Any) -> Recommendation:
    return recommend(
        contenders, Constraints(**constraints), budget_tolerance=0.05, bootstrap_samples=1000, seed=0
    )


def names(found: Recommendation) -> list[str]:
    return [place.contender.name for place in found.ranking]


def test_the_dominating_method_is_taken_whatever_its_latency() -> None:
    found = choose(
        make_contender("gan", 0.6, latency_ms=2),
        make_contender("diffusion", 0.95),
        make_contender("clip", 0.8),
    )
    assert names(found) == ["diffusion", "clip", "gan"]
    assert [place.probability_best for place in found.ranking] == [1, 0, 0]
    assert describe_recommendation(found)[-1] == (
        "Take diffusion: no other that qualifies is as often right on these prompts."
    )
    assert any(
        s.startswith("gan is behind diffusion on these prompts, of one training each (difference 35.0 points")
        for s in describe_recommendation(found)
    )


def test_of_two_that_cannot_be_told_apart_the_faster_is_taken_and_prompts_are_counted() -> None:
    rng = np.random.default_rng(0)
    slow, fast = rng.permutation(PROMPTS) < 320, rng.permutation(PROMPTS) < 316  # 80 and 79 %, independent
    found = choose(
        make_contender("slow", slow, latency_ms=200),
        make_contender("fast", fast, latency_ms=10),
        make_contender("bad", 0.3, latency_ms=1),
    )
    assert names(found) == ["fast", "slow", "bad"]
    (tie,) = [
        sentence for sentence in describe_recommendation(found) if "cannot be told apart by" in sentence
    ]
    spread = (slow.astype(float) - fast).std()
    alone = int(np.ceil((2.8016 * spread / 0.01) ** 2)) - PROMPTS
    more = re.search(r"about ([\d,]+) more prompts would", tie)
    assert more
    # three pairs must hold at once, which takes more prompts than one
    assert alone < int(more[1].replace(",", "")) < 1.5 * alone
    assert describe_recommendation(found)[-1].startswith(
        "Take fast: fast and slow follow captions equally well"
    )


LIKE, ALMOST_LIKE, UNLIKE = (0.40, 0.36, 0.44), (0.45, 0.41, 0.49), (0.94, 0.90, 0.98)


def test_of_equally_right_ones_the_likest_to_real_pictures_are_taken_and_the_faster_of_those() -> None:
    found = choose(
        make_contender("gan", 1.0, lost=UNLIKE, latency_ms=8),
        make_contender("clip", 1.0, lost=(0.6, 0.56, 0.64), latency_ms=86),
        make_contender("dalle", 1.0, lost=LIKE, latency_ms=110),
        make_contender("vqvae", 1.0, lost=ALMOST_LIKE, latency_ms=44),
        make_contender("bad", 0.3, lost=(0.01, 0.0, 0.02), latency_ms=1),
    )
    assert names(found) == ["vqvae", "dalle", "clip", "gan", "bad"]
    *_, choice, alternative = describe_recommendation(found)
    assert choice.startswith("Take vqvae: vqvae, dalle, clip and gan follow captions equally well")
    assert choice.endswith(
        "the pictures of vqvae and dalle are the most like real ones, and of these vqvae is the fastest for "
        "one picture alone (44 ms)."
    )
    assert alternative == (
        "Faster, but less like real pictures than dalle (40.0\xa0% of likeness lost): "
        "gan (8 ms, 94.0\xa0% lost)."
    )


def test_likeness_differs_where_their_difference_does_not_reach_zero_even_if_intervals_touch() -> None:
    """0.07 apart with half-widths of 0.04 each: the difference is 0.07 give or take 0.057."""
    found = choose(
        make_contender("dalle", 1.0, lost=(0.40, 0.36, 0.44), latency_ms=137),
        make_contender("vqvae", 1.0, lost=(0.47, 0.43, 0.51), latency_ms=40),
        make_contender("diffusion", 1.0, lost=(0.57, 0.53, 0.61), latency_ms=64),
        make_contender("gan", 1.0, lost=(0.86, 0.82, 0.90), latency_ms=8),
    )
    assert names(found) == ["dalle", "vqvae", "diffusion", "gan"]
    *_, choice, alternative = describe_recommendation(found)
    assert choice.endswith("the pictures of dalle are the most like real ones.")
    # diffusion is slower than vqvae and farther from real pictures: no reason to take it
    assert alternative.endswith("gan (8 ms, 86.0\xa0% lost) and vqvae (40 ms, 47.0\xa0% lost).")


def test_a_method_alone_nearest_to_real_pictures_is_taken_and_nothing_faster_is_made_up() -> None:
    nearest = make_contender("diffusion", 1.0, lost=LIKE, latency_ms=10)
    found = choose(nearest, make_contender("gan", 1.0, lost=UNLIKE, latency_ms=20))
    assert names(found) == ["diffusion", "gan"]
    assert describe_recommendation(found)[-1].endswith(
        "the pictures of diffusion are the most like real ones."
    )


def test_what_one_network_alone_sees_tells_nobody_apart() -> None:
    near, far = (make_contender(name, 1.0, lost=lost) for name, lost in (("a", LIKE), ("b", UNLIKE)))
    assert nearest_to_real([near, far]) == [near]
    far.judgement.splits["val"].metrics["likeness_again"] = Estimate(0.41, 0.37, 0.45, PROMPTS)
    assert nearest_to_real([near, far]) == [near, far]


def test_likeness_does_not_outweigh_captions() -> None:
    found = choose(make_contender("pretty", 0.5, lost=LIKE), make_contender("obedient", 0.9, lost=UNLIKE))
    assert names(found) == ["obedient", "pretty"]


def test_an_exact_tie_says_that_no_number_of_prompts_is_known_to_help() -> None:
    found = choose(make_contender("a", 0.8, latency_ms=30), make_contender("b", 0.8, latency_ms=20))
    assert names(found) == ["b", "a"]
    assert any("no number of prompts is known to" in sentence for sentence in describe_recommendation(found))


@pytest.mark.parametrize(
    ("constraint", "reason"),
    [
        ({"max_latency_ms": 40}, "best does not qualify: a picture takes 90 ms, at most 40 are allowed."),
        (
            {"min_images_per_second": 60},
            "best does not qualify: 16 at once, it draws 55 pictures a second, 60 are needed.",
        ),
        (
            {"max_train_minutes": 5},
            "best does not qualify: training took 9.0 minutes, at most 5 are allowed.",
        ),
        ({"max_copy_rate": 0.02}, "10.0\N{NO-BREAK SPACE}% of its pictures are copies (9.0 to 11.0"),
        ({"max_memory_gb": 2}, "best does not qualify: training took 3.50 GB of memory, at most 2 GB"),
    ],
)
def test_the_best_that_breaks_a_constraint_is_passed_over_with_the_reason(constraint, reason) -> None:
    best = make_contender(
        "best", 0.99, latency_ms=90, images_per_second=55, train_minutes=9, copies=0.1, memory_gb=3.5
    )
    second = make_contender("second", 0.7, latency_ms=20, train_minutes=4)
    assert names(choose(best, second)) == ["best", "second"]
    found = choose(best, second, **constraint)
    assert names(found) == ["second"]
    assert reason in describe_recommendation(found)[0]


@pytest.mark.parametrize(
    ("constraint", "reason"),
    [
        ({"min_images_per_second": 60}, "it draws 59.7 pictures a second, 60 are needed"),
        ({"max_latency_ms": 51}, "a picture takes 51.2 ms, at most 51 are allowed"),
        ({"max_train_minutes": 3}, "training took 3.04 minutes, at most 3 are allowed"),
        ({"max_memory_gb": 2}, "training took 2.004 GB of memory, at most 2 GB are allowed"),
        ({"min_images_per_second": 1234567}, "60 pictures a second, 1234567 are needed"),
    ],
    ids=str,
)
def test_a_figure_just_beyond_its_limit_is_told_from_it(constraint, reason) -> None:
    close = make_contender(
        "close", 0.9, latency_ms=51.16, images_per_second=59.69, train_minutes=3.04, memory_gb=2.004
    )
    with pytest.raises(SalonError, match=re.escape(reason)):
        choose(close, **constraint)


@pytest.mark.parametrize("limit", [float("nan"), float("inf"), -1.0])
@pytest.mark.parametrize("name", ["max_latency_ms", "min_images_per_second", "min_alignment"])
def test_a_limit_that_nothing_could_keep_names_its_option(name: str, limit: float) -> None:
    with pytest.raises(SalonError, match=f"--{name.replace('_', '-')} .* give a number"):
        Constraints(**{name: limit})


def test_no_core_at_all_is_no_machine() -> None:
    with pytest.raises(SalonError, match="--cores 0"):
        Constraints(cores=0)


def test_both_speeds_are_told() -> None:
    said = describe_recommendation(choose(make_contender("a", 0.9, latency_ms=31, images_per_second=77)))
    assert any("31 ms a picture, 77 a second in batches of 16;" in sentence for sentence in said)


def test_when_nothing_is_feasible_every_reason_is_given() -> None:
    with pytest.raises(SalonError) as refused:
        choose(make_contender("a", 0.8), make_contender("b", 0.6), min_alignment=0.9, max_latency_ms=10)
    message = str(refused.value)
    assert message.startswith("nothing qualifies. a: a picture takes 50 ms")
    assert "b: " in message
    assert "90.0\N{NO-BREAK SPACE}% are needed" in message
    assert message.endswith("Relax a constraint, or train longer")
    with pytest.raises(SalonError, match=r"Relax a constraint$"):  # which no training makes quicker
        choose(make_contender("a", 0.8), max_latency_ms=10)


def test_what_is_no_number_does_not_pass() -> None:
    with pytest.raises(SalonError, match="nothing qualifies"):
        choose(make_contender("a", 0.9, latency_ms=float("nan")), max_latency_ms=100)
    with pytest.raises(SalonError, match="nothing qualifies"):
        choose(make_contender("a", 0.9, images_per_second=float("nan")), min_images_per_second=1)
    with pytest.raises(SalonError, match="nothing qualifies"):
        choose(make_contender("a", 0.9, copies=float("nan")), max_copy_rate=0.5)
    with pytest.raises(SalonError, match="nothing qualifies"):
        choose(make_contender("a", 0.9, memory_gb=float("nan")), max_memory_gb=8)


@pytest.mark.parametrize(
    "elsewhere", [{"cores": 1}, {"device": "cuda"}, {"device": "cpu", "cores": 1}], ids=str
)
def test_time_on_another_machine_is_not_invented(elsewhere: dict[str, Any]) -> None:
    for limit in ({"max_latency_ms": 100}, {"min_images_per_second": 10}, {"max_train_minutes": 10}):
        with pytest.raises(SalonError, match="measured on 2 CPU cores, and is not known elsewhere"):
            choose(make_contender("a", 0.9), **limit, **elsewhere)
    # without a limit on time it does not matter, and it is said
    said = describe_recommendation(choose(make_contender("a", 0.9), min_alignment=0.5, **elsewhere))
    assert "Seconds were measured on 2 CPU cores; on the machine asked for they are not known" in said[0]


def test_figures_hold_where_they_were_measured_and_with_more_cores() -> None:
    plain = describe_recommendation(
        choose(make_contender("a", 0.9), max_latency_ms=100, device="cpu", cores=2)
    )
    assert plain[0] == "Seconds were measured on 2 CPU cores."
    more = describe_recommendation(choose(make_contender("a", 0.9), max_latency_ms=100, cores=16))
    assert more[0].endswith("with more cores they are taken as they are.")
    gpu = ("cuda: NVIDIA H100", 16)
    assert names(choose(make_contender("a", 0.9, machine=gpu), max_latency_ms=100, device="cuda H100")) == [
        "a"
    ]


def test_unequal_budgets_and_other_prompts_are_not_ranked() -> None:
    with pytest.raises(SalonError, match=r"b was trained with 3e\+13 FLOPs"):
        choose(make_contender("a", 0.9), make_contender("b", 0.8, train_flops=3e13))
    with pytest.raises(SalonError, match="different prompts"):
        choose(make_contender("a", 0.9), make_contender("b", np.ones(10, dtype=bool)))


def write_workspace(root: Path, *, passed: bool = True) -> Params:
    params = write_tiny_params(root)
    paths = Paths(root)
    share = {"value": 0.9, "low": 0.85, "high": 0.95, "n": 20}
    for name in params.methods:
        write_json(
            paths.metrics(name),
            {
                "val": {"alignment": {"all": share}, **dict.fromkeys(LIKENESS, share)},
                "test": {"alignment": {"all": share}},
                "memorisation": {
                    "copy_rate": share | {"value": 0.0, "low": 0.0},
                    "nearer": share | {"value": 0.5},
                    "power": 0.99,
                    "detectable_rate": 0.02,
                },
                "cost": {
                    "parameters": 1,
                    "training_parameters": 0,
                    "images_seen": 1,
                    "latency_ms_p95": 60.0,
                    "latency_ms_p50": 50.0,
                    "images_per_second_b16": 80.0,
                    "train_minutes": 6.0,
                    "train_flops": 1e12,
                    "peak_memory_gb": 1.5,
                    "selection_flops": 1,
                    "selection_minutes": 1,
                    "picture_flops": 1,
                    "device": "cpu",
                    "cpu_cores": 2,
                },
            },
        )
        samples = [{"id": f"{i}", "all": i % 10 > 0} for i in range(20)]
        write_json(paths.samples(name) / "val.json", samples)
    write_json(
        paths.sentinels, {"passed": passed, "broken": "" if passed else "test/likeness: noise", "rules": []}
    )
    return params


def test_the_command_prints_the_choice_and_fails_when_there_is_none(tmp_path, monkeypatch) -> None:
    write_workspace(tmp_path)
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["recommend", "--max-latency-ms", "60"])
    assert shown.exit_code == 0, shown.output
    assert "Take " in shown.output
    for impossible in (
        ["--max-latency-ms", "40"],
        ["--min-images-per-second", "90"],
        ["--max-memory-gb", "1"],
        ["--max-latency-ms", "60", "--device", "cuda"],
        ["--max-train-minutes", "10", "--cores", "1"],
    ):
        refused = CliRunner().invoke(app, ["recommend", *impossible])
        assert refused.exit_code != 0
        assert isinstance(refused.exception, SalonError)


@pytest.mark.parametrize("content", ["", "[]", '{"val": {}}'])
def test_figures_that_cannot_be_read_name_the_stage_that_writes_them(tmp_path, content: str) -> None:
    params = write_workspace(tmp_path)
    Paths(tmp_path).metrics("gan").write_text(content, encoding="utf-8")
    with pytest.raises(
        SalonError, match=r"gan\.json is not what its stage writes \(.*\): run .* --force evaluate@gan"
    ):
        stage.run(params, Paths(tmp_path), Constraints())


@pytest.mark.parametrize("absent", ["memorisation", "device", "cpu_cores", "peak_memory_gb"])
def test_what_was_not_measured_is_named_with_its_stage(tmp_path, absent: str) -> None:
    params = write_workspace(tmp_path)
    file = Paths(tmp_path).metrics("gan")
    metrics = read_json(file)
    (metrics if absent in metrics else metrics["cost"]).pop(absent)
    write_json(file, metrics)
    with pytest.raises(SalonError, match=rf"gan\.json is not .*{absent}.*: run .* --force evaluate@gan"):
        stage.run(params, Paths(tmp_path), Constraints())


@pytest.mark.parametrize("content", ["", "[]", '{"passed": true}'])
def test_sentinels_that_cannot_be_read_name_their_stage(tmp_path, content: str) -> None:
    params = write_workspace(tmp_path)
    Paths(tmp_path).sentinels.write_text(content, encoding="utf-8")
    with pytest.raises(
        SalonError, match=r"sentinels\.json is not what its stage writes \(.*\): run .* --force sentinels"
    ):
        stage.run(params, Paths(tmp_path), Constraints())


def test_broken_sentinels_recommend_nothing(tmp_path) -> None:
    params = write_workspace(tmp_path, passed=False)
    with pytest.raises(SalonError, match="test/likeness: noise"):
        stage.run(params, Paths(tmp_path), Constraints())
