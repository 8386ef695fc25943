"""Verdict and recommendation with several trainings at hand: of methods, or held against their spread."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from comparison_workspace import make_workspace, samples
from salon.files import read_json, write_json
from salon.judging.alignment import ALL
from salon.judging.metrics import LIKENESS
from salon.judging.record import CopyFigures, CopyShares, Cost
from salon.judging.statistics import Estimate
from salon.params import Params
from salon.paths import Paths
from salon.report.load import load_report_data
from salon.report.other_trainings import ONE_TRAINING, OtherTrainings
from salon.report.recommend import Constraints, Contender, Recommendation, recommend
from salon.report.recommendation_text import describe_recommendation
from salon.report.replicates_page import headline_rows, replicates_page, told_apart
from salon.report.seed_study import Made, SeedStudy
from salon.report.summary import summarize
from studies import make_replicate, make_study
from tiny import write_tiny_params

Trainings = Mapping[str, Sequence[tuple[float, float]]]
CLEAR: Trainings = {
    "gan": [(0.70, 0.40), (0.71, 0.41), (0.69, 0.39)],
    "clip": [(0.80, 0.20), (0.81, 0.21), (0.79, 0.19)],
}
LUCKY: Trainings = {  # the same means, and each seed says something else
    "gan": [(0.50, 0.30), (0.90, 0.50), (0.70, 0.40)],
    "clip": [(0.60, 0.10), (0.80, 0.30), (1.0, 0.20)],
}


@pytest.fixture
def params(tmp_path: Path) -> Params:
    return write_tiny_params(tmp_path)


def other_trainings(params: Params, trainings: Trainings, *, settings: str = "") -> OtherTrainings:
    made = replace(Made.of(params), **({"settings": settings} if settings else {}))
    study = make_study(params, trainings, made=made)
    return OtherTrainings(study, of_these=not settings, alike=True)


def test_what_the_seeds_agree_on_is_told_apart_and_what_they_do_not_is_not(params: Params) -> None:
    alignment, likeness, diversity = told_apart(headline_rows(make_study(params, CLEAR)))
    assert alignment.startswith("All right, test: clip is right more often than gan by 10.0 points (")
    assert likeness == "Likeness, where two networks agree: clip is nearer to real pictures than gan."
    assert diversity == "Diversity: nothing tells the methods apart."
    for sentence in told_apart(headline_rows(make_study(params, LUCKY))):
        assert sentence.endswith("nothing tells the methods apart.")


def test_what_one_network_alone_sees_is_not_told_apart(params: Params) -> None:
    study = make_study(params, CLEAR)
    for each in study.methods["clip"].finished:
        each.judgement.splits["test"].metrics["likeness_again"] = Estimate(0.40, 0.39, 0.41, 400)
    _, likeness, _ = told_apart(headline_rows(study))
    assert likeness == "Likeness, where two networks agree: nothing tells the methods apart."


def test_fewer_than_three_trainings_rank_nobody(params: Params) -> None:
    two = {name: figures[:2] for name, figures in CLEAR.items()}
    study = make_study(params, two)
    assert told_apart(headline_rows(study)) == []
    assert "Nothing yet: no two methods have 3 trainings." in replicates_page(study)
    others = OtherTrainings(study, of_these=True, alike=True)
    assert others.count(["gan", "clip"]) == 1
    assert others.basis(["gan", "clip"]) == "of one training each, and the spread of others"


def test_the_page_holds_means_intervals_and_every_training(params: Params) -> None:
    page = replicates_page(make_study(params, CLEAR, diverged={"gan": [4]}))
    assert "the seeds 1, 2, 3 and 4 at the settings of `params.yaml`" in page
    (row,) = [line for line in page.splitlines() if line.startswith("| all right, test")]
    assert "**80.0\xa0%**<br>" in row
    assert row.endswith("<br>80.0, 81.0, 79.0 |")
    assert "| diverged | 1 of 4 | 0 of 3 |" in page
    assert "- All right, test: clip is right more often than gan by 10.0 points" in page


def test_a_study_is_of_these_methods_only_while_their_settings_stand(params: Params, tmp_path: Path) -> None:
    path = Paths(tmp_path).seeds
    assert OtherTrainings.load(path, params) == ONE_TRAINING
    make_study(params, CLEAR).save(path)
    assert OtherTrainings.load(path, params).count(["gan", "clip"]) == 3
    assert OtherTrainings.load(path, params).count(["gan", "clip", "dalle"]) == 1
    other = params.model_copy(update={"methods": {**params.methods, "gan": {"lr": 1.0}}})
    changed = OtherTrainings.load(path, other)
    assert (changed.of_these, changed.alike) == (False, True)
    larger = params.model_copy(update={"seed": 1})
    assert not OtherTrainings.load(path, larger).alike
    again = params.model_copy(update={"training": params.training.model_copy(update={"seed": 5})})
    assert OtherTrainings.load(path, again).of_these, "another training of the same"


def make_contender(name: str, right: float, lost: float, *, latency_ms: float = 50) -> Contender:
    made = make_replicate(9, right, lost)
    shares = CopyShares(Estimate(0.0, 0.0, 0.01, 400), Estimate(0.5, 0.45, 0.55, 400))
    copies = CopyFigures({"test": shares}, 0.99, 0.02)
    cost = Cost(
        train_flops=1e12,
        train_minutes=6.0,
        parameters=1,
        training_parameters=0,
        images_seen=1,
        latency_ms_p50=latency_ms,
        latency_ms_p95=latency_ms,
        images_per_second_b16=80.0,
        peak_memory_gb=1.0,
        selection_flops=1e9,
        selection_minutes=0.1,
        picture_flops=1e6,
        device="cpu",
        cpu_cores=2,
    )
    judgement = replace(made.judgement, memorisation=copies, cost=cost)
    return Contender(name, judgement, {f"{n:03}": mark == "1" for n, mark in enumerate(made.verdicts["val"])})


def choose(others: OtherTrainings, *contenders: Contender) -> Recommendation:
    return recommend(
        contenders, Constraints(), budget_tolerance=0.05, bootstrap_samples=500, seed=0, others=others
    )


def test_the_recommendation_is_of_methods_where_three_trainings_speak_of_them(params: Params) -> None:
    # the present weights say the opposite of what the trainings say
    lucky = (make_contender("gan", 0.9, 0.1, latency_ms=5), make_contender("clip", 0.8, 0.2))
    assert choose(ONE_TRAINING, *lucky).ranking[0].contender.name == "gan"
    found = choose(other_trainings(params, CLEAR), *lucky)
    assert [place.contender.name for place in found.ranking] == ["clip", "gan"]
    text = "\n".join(describe_recommendation(found))
    assert "clip: everything right in 80.0\xa0% of val (" in text
    assert "gan is behind clip on these prompts, over 3 full trainings of each (difference 10.0" in text
    assert "best with probability" not in text
    tied = choose(other_trainings(params, LUCKY), *lucky)
    assert [place.contender.name for place in tied.ranking] == ["gan", "clip"], "tied, and gan is faster"
    assert "gan and clip cannot be told apart over 3 full trainings of each" in "\n".join(
        describe_recommendation(tied)
    )


def test_nothing_is_ranked_that_lies_closer_than_the_spread_of_older_trainings(params: Params) -> None:
    lucky = (make_contender("gan", 0.9, 0.2, latency_ms=5), make_contender("clip", 0.8, 0.1))
    older = other_trainings(params, LUCKY, settings="older")
    found = choose(older, *lucky)
    assert all(place.tied for place in found.ranking)
    text = describe_recommendation(found)
    assert any("cannot be told apart of one training each, and the spread of others" in s for s in text)
    assert text[-1].startswith("Take gan: gan and clip follow captions equally well")
    # older trainings that agreed leave the difference standing
    steady = other_trainings(params, CLEAR, settings="older")
    assert choose(steady, *lucky).ranking[1].contender.name == "clip"
    assert not choose(steady, *lucky).ranking[1].tied


def verdict(params: Params, paths: Paths) -> str:
    return " ".join(summarize(load_report_data(params, paths), bootstrap_samples=500)[0])


def everything(params: Params, paths: Paths) -> str:
    data = load_report_data(params, paths)
    return " ".join(sentence for part in summarize(data, bootstrap_samples=500) for sentence in part)


def novel_too(study: SeedStudy) -> SeedStudy:
    """The splits of the workspace of the comparison page."""
    for one in study.methods.values():
        for place, each in enumerate(one.finished):
            splits, verdicts = dict(each.judgement.splits), dict(each.verdicts)
            for kind in ("novel/concept_x_background", "novel/concept_x_style"):
                splits[kind], verdicts[kind] = splits["test"], verdicts["test"]
                study.clusters[kind] = study.clusters["test"]
            judgement = replace(each.judgement, splits=splits)
            one.finished[place] = replace(each, judgement=judgement, verdicts=verdicts)
    return study


def test_the_verdict_speaks_of_methods_where_three_trainings_do(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.9512, clip=0.9)
    assert verdict(params, paths).startswith("At equal budgets, of one training each, no method follows")
    novel_too(make_study(params, CLEAR)).save(paths.seeds)
    text = verdict(params, paths)
    assert text.startswith("At equal budgets, over 3 full trainings of each, clip follows captions best")
    assert "in 80.0\xa0% of 400 pictures of each training (95\xa0% interval 77." in text
    assert "It leads gan by 10.0 points (" in text
    assert "probability" not in text
    nearest = "The pictures of clip lie nearest to real ones, 20.0\xa0% (18."
    assert nearest in everything(params, paths)
    assert "two networks agree" in everything(params, paths)
    novel_too(make_study(params, LUCKY)).save(paths.seeds)
    text = everything(params, paths)
    assert "over 3 full trainings of each, no method follows captions measurably better" in text
    assert "gan cannot be told from it by two networks that agree" in text
    assert "more prompts" not in text


def test_with_one_training_the_verdict_ranks_nothing_closer_than_the_spread(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.8, clip=0.9512)
    rows = samples()
    for row in rows[::3]:
        row[ALL] = False
    write_json(paths.samples("gan") / "test.json", rows)
    for name, lost in (("gan", 0.3), ("clip", 0.2)):
        metrics = read_json(paths.metrics(name))
        figure = {"value": lost, "low": lost - 0.01, "high": lost + 0.01, "n": 200}
        metrics["test"] |= dict.fromkeys(LIKENESS, figure)
        write_json(paths.metrics(name), metrics)
    assert "clip follows captions best" in verdict(params, paths)
    assert "of two of them; two networks agree" in everything(params, paths)
    older = replace(Made.of(params), settings="0" * 16)
    novel_too(make_study(params, LUCKY, made=older)).save(paths.seeds)
    text = everything(params, paths)
    assert "of one training each, and the spread of others, no method follows captions measurably" in text
    assert "gan cannot be told from it by two networks that agree" in text
    elsewhere = replace(older, conditions="0" * 16)
    novel_too(make_study(params, LUCKY, made=elsewhere)).save(paths.seeds)
    assert "At equal budgets, of one training each, clip follows captions best" in verdict(params, paths)
