"""The verdict: plain words that follow from the figures, and no more than the figures carry."""

from html import unescape
from pathlib import Path

import pytest

from comparison_workspace import forget_attributes, make_workspace, memorisation, samples
from salon.errors import SalonError
from salon.files import read_json, write_json
from salon.judging.metrics import LIKENESS
from salon.judging.sentinel_rules import SENTINELS
from salon.judging.statistics import Estimate
from salon.params import Params
from salon.paths import Paths
from salon.report.load import load_report_data
from salon.report.summary import stand, summarize, unbeaten
from salon.report.wording import decimal, describe_settings, enumerate_words, points, split_title
from salon.stages import compare as stage


def words(params: Params, paths: Paths) -> str:
    data = load_report_data(params, paths)
    return " ".join(sentence for part in summarize(data, bootstrap_samples=2000) for sentence in part)


def set_cost(paths: Paths, name: str, **cost: float) -> None:
    metrics = read_json(paths.metrics(name))
    metrics["cost"] |= cost
    write_json(paths.metrics(name), metrics)


def test_a_clear_lead_is_paired(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.8, diffusion=0.9512)
    rows = samples()
    for row in rows[::3]:
        row["all"] = False
    write_json(paths.samples("gan") / "test.json", rows)
    text = words(params, paths)
    assert "At equal budgets, of one training each, diffusion follows captions best: asked for" in text
    assert "all as the caption says in 95.1\xa0% of 200 pictures (95\xa0% interval 93.0 to 97.0\xa0%)" in text
    assert "with probability 1.00" in text
    # of the ten rows made wrong for gan, five were wrong for both
    assert "It leads gan by 16.7 points (" in text
    assert "cannot tell them apart" not in text
    standing = stand(load_report_data(params, paths).methods, "test", bootstrap_samples=500)
    assert standing.behind["gan"].difference.value == pytest.approx(5 / 30)
    assert (standing.best.name, standing.tied, [m.name for m in standing.worse]) == ("diffusion", [], ["gan"])


def test_a_tie_says_how_many_more_prompts_would_tell(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.94, diffusion=0.9512)
    rows = samples()
    rows[1]["all"] = False
    write_json(paths.samples("gan") / "test.json", rows)
    text = words(params, paths)
    # one of 30 prompts apart: ((1.96 + 0.8416) * 0.1826 * 30)² = 236 prompts in all, 206 more
    assert "no method follows captions measurably better than another" in text
    assert "(of 200 pictures diffusion 95.1\xa0% (93.0 to 97.0\xa0%) and gan 94.0\xa0% (" in text
    assert "diffusion could be told from gan by about 206 more prompts, if" in text
    assert "ahead" not in text


def test_equal_methods_need_no_further_prompts(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.9512, diffusion=0.9512)
    text = words(params, paths)
    assert "no method follows captions measurably better than another" in text
    assert "more prompts" not in text


def test_several_that_tie_lead_the_rest_together(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.8, clip=0.9512, diffusion=0.9512)
    rows = samples()
    for row in rows[::2]:
        row["all"] = False
    write_json(paths.samples("gan") / "test.json", rows)
    text = words(params, paths)
    assert "clip and diffusion follow captions best, and these 200 prompts cannot tell them apart" in text
    assert "clip leads gan by 33.3 points (" in text


def test_one_method_is_described_alone(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, diffusion=0.9512)
    text = words(params, paths)
    assert "Asked for combinations known from training, diffusion draws" in text
    assert "this concept and style together, everything is right in 18.3\xa0%" in text
    assert "One picture takes 31 ms (median, alone) after 5.4 minutes of training." in text
    assert "fastest" not in text


def test_pictures_without_attributes_are_judged_by_their_captions(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, diffusion=0.9512)
    forget_attributes(paths, "diffusion")
    text = words(params, paths)
    assert "Asked for captions held out of training, diffusion draws what finds its own caption" in text
    assert "among others in 95.1\xa0% of 200" in text
    assert "On held-out captions diffusion follows" in text
    assert "ombinations" not in text


def test_novel_combinations_have_their_own_best(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.8, diffusion=0.9512)
    metrics = read_json(paths.metrics("gan"))
    metrics["novel"]["concept_x_style"]["alignment"]["all"]["value"] = 0.4321
    write_json(paths.metrics("gan"), metrics)
    rows = samples()
    for row in rows[::3]:
        row["all"] = False
    write_json(paths.samples("diffusion") / "novel-concept_x_style.json", rows)
    text = words(params, paths)
    assert "this concept and style together, gan is most often right on these prompts, in 43.2\xa0%" in text
    assert "background together, diffusion (94.1\xa0%) and gan (79.0\xa0%) cannot be told apart;" in text


def test_speed_and_what_nothing_beats(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.8, vqvae=0.7, diffusion=0.9512)
    set_cost(paths, "gan", latency_ms_p50=6.2)
    set_cost(paths, "vqvae", latency_ms_p50=20.0)
    text = words(params, paths)
    assert "The fastest is gan: one picture takes 6 ms (median, alone), before vqvae with 20 ms" in text
    assert "; diffusion takes 31 ms." in text
    # vqvae is slower and worse than gan
    assert [m.name for m in unbeaten(load_report_data(params, paths).methods)] == ["gan", "diffusion"]
    assert "neither time nor right pictures are gained by taking any other than gan and diffusion." in text

    set_cost(paths, "vqvae", latency_ms_p50=5.0)
    assert "No method gains time over another, or right pictures, without losing the other." in words(
        params, paths
    )


def test_what_is_slower_and_only_as_often_right_is_beaten(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.9512, diffusion=0.9512)
    set_cost(paths, "gan", latency_ms_p50=6.2)
    assert [m.name for m in unbeaten(load_report_data(params, paths).methods)] == ["gan"]
    set_cost(paths, "gan", latency_ms_p50=read_json(paths.metrics("diffusion"))["cost"]["latency_ms_p50"])
    assert len(unbeaten(load_report_data(params, paths).methods)) == 2


def test_copies_are_told_when_they_are_more_than_chance(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.8, diffusion=0.9512)
    found = "No copies of training pictures were found among the pictures of any method"
    limits = (
        "Copies are found where they are enough, through each method's own channel: "
        "of gan from 1.5\xa0% on and diffusion from 1.5\xa0% on."
    )
    assert f"{found}. {limits}" in words(params, paths)
    metrics = read_json(paths.metrics("gan"))
    metrics["memorisation"] = memorisation(0.0521, low=0.0312)
    write_json(paths.metrics("gan"), metrics)
    copied = "Training pictures are copied by gan in 5.2\xa0% of its pictures (3.1 to 6.5\xa0%);"
    assert f"{copied} the others show none beyond chance. {limits}" in words(params, paths)


def test_memory_and_drawings_are_told_where_they_are_more_than_chance(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.8, diffusion=0.9512)
    assert "chance gives" not in words(params, paths)
    assert "source drawing" not in words(params, paths)
    for name, drawing in (("gan", 0.999), ("diffusion", 0.981)):
        metrics = read_json(paths.metrics(name))
        share = {"value": drawing, "low": 0.96, "high": 1.0, "n": 500}
        metrics["memorisation"] |= {"drawing": share, "another_drawing": share | {"value": 0.0, "low": 0.0}}
        metrics["memorisation"]["nearer"] |= {"low": 0.503} if name == "gan" else {}
        write_json(paths.metrics(name), metrics)
    told = words(params, paths)
    assert "did not see, of gan (51.2\xa0%, 50.3 to 55.6\xa0%)." in told
    drawn = "Nearly every picture of a known combination reproduces one identifiable source drawing"
    assert f"{drawn}, the one asked for (gan 99.9\xa0% and diffusion 98.1\xa0%)" in told


def likeness(paths: Paths, **lost: float) -> None:
    """Set what the pictures of methods lose, in the eyes of both networks."""
    for name, value in lost.items():
        metrics = read_json(paths.metrics(name))
        figure = {"value": value, "low": value - 0.01, "high": value + 0.03, "n": 200}
        metrics["test"] |= dict.fromkeys(LIKENESS, figure)
        write_json(paths.metrics(name), metrics)


def test_likeness_names_who_cannot_be_told_from_the_nearest(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.8, clip=0.7, diffusion=0.9512)
    likeness(paths, gan=0.031, clip=0.5, diffusion=0.05)
    text = words(params, paths)
    found = "The pictures of gan lie nearest to real ones, 3.1\xa0% (2.1 to 6.1\xa0%) of the way from real"
    assert f"{found} pictures to blends of two of them; diffusion cannot be told from it" in text
    likeness(paths, diffusion=0.2)
    assert "to blends of two of them; two networks agree." in words(params, paths)


def test_a_method_that_draws_one_picture_per_caption_is_named(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.8, diffusion=0.9512)
    assert "nearly one picture" not in words(params, paths)
    metrics = read_json(paths.metrics("gan"))
    metrics["test"]["diversity"] = {"value": 0.15, "low": 0.13, "high": 0.17, "n": 100}
    write_json(paths.metrics("gan"), metrics)
    text = words(params, paths)
    assert "Of one caption, nearly one picture is drawn by gan (15.0\xa0% of real variety)." in text


def test_warnings_of_a_training_are_not_hidden(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.8, diffusion=0.9512)
    path = paths.selected("gan") / "training.json"
    ledger = read_json(path)
    ledger["own"]["warnings"] = ["the pictures of a batch are all alike"]
    write_json(path, ledger)
    assert "The training of gan gave warnings, below." in words(params, paths)
    stage.run(params, paths)
    page = (paths.compare / "index.html").read_text(encoding="utf-8")
    assert "gan in training: the pictures of a batch are all alike" in page


def test_a_closed_gate_leaves_no_verdict(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.8, diffusion=0.9512)
    broken = "1 of 23 rules for the sentinels are broken: test/likeness: real 3 must be below noise 2"
    write_json(paths.sentinels, {"passed": False, "broken": broken, "rules": []})
    text = words(params, paths)
    assert text == f"There is no verdict, for the jury itself is broken. {broken}."
    stage.run(params, paths)
    page = (paths.compare / "index.html").read_text(encoding="utf-8")
    assert page.count(broken) >= 2
    assert "follows captions best" not in page
    assert "rules hold" not in page


def test_different_prompts_are_refused(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, gan=0.8, diffusion=0.9512)
    rows = samples()
    rows[4]["id"], rows[5]["id"] = rows[5]["id"], rows[4]["id"]
    write_json(paths.samples("gan") / "test.json", rows)
    with pytest.raises(SalonError, match="judged on different prompts of test"):
        stage.run(params, paths)


def test_the_page_explains_every_sentinel(tmp_path: Path) -> None:
    params, paths = make_workspace(tmp_path, diffusion=0.9512)
    stage.run(params, paths)
    page = unescape((paths.compare / "index.html").read_text(encoding="utf-8"))
    assert all(f"{name}: {meaning}" in page for name, meaning in SENTINELS.items())


def test_words() -> None:
    assert enumerate_words(["a"]) == "a"
    assert enumerate_words(["a", "b", "c"]) == "a, b and c"
    assert split_title("novel/concept_x_style") == "Never seen together: concept and style"
    assert (
        split_title("novel/concept_x_background+concept_x_style")
        == "Never seen together: concept and background; concept and style"
    )
    assert [decimal(value) for value in (0.01234, -0.0002, -0.0146, 2.4716, 14.8014, 373.66)] == [
        "0.012",
        "0.000",
        "−0.015",
        "2.47",
        "14.8",
        "374",
    ]
    assert points(Estimate(0.0324, -0.0104, 0.0544, 500)) == "3.2 points (−1.0 to 5.4)"
    settings = {"candidates": 1, "num_inference_steps": 8, "guidance_scale": 1.5, "tau": 2.0}
    assert describe_settings(settings) == "best of 1, 8 steps, guidance 1.5, tau 2"
