"""Full trainings from several seeds: what all of them share, what a failure does, and how it goes on."""

import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from salon.commands import seeds
from salon.errors import SalonError
from salon.files import read_json, write_json
from salon.params import load_params
from salon.paths import Paths
from salon.report.seed_study import SeedStudy
from studies import make_replicate
from tiny import write_tiny_params

FIRST = 5


class Stages:
    """Stands in for DVC and for the processes of the stages: what each training gives is known."""

    def __init__(self) -> None:
        self.done: list[tuple[str, int]] = []
        self.failing: set[tuple[str, int]] = set()
        self.killed_at: tuple[str, int] | None = None
        self.judge = "one"

    def clone(self, paths: Paths, folder: Path) -> Paths:
        clone = Paths(folder)
        clone.profiles.mkdir(parents=True)
        clone.params.write_text(paths.params.read_text(encoding="utf-8"), encoding="utf-8")
        text = (paths.profiles / "smoke.yaml").read_text(encoding="utf-8")
        (clone.profiles / "smoke.yaml").write_text(text, encoding="utf-8")
        return clone

    def did(self, clone: Paths, target: str) -> bool:
        params = load_params(clone.params)
        assert params.seed == FIRST, "the seed of the data stays"
        if self.killed_at == (target, params.training_seed):
            raise KeyboardInterrupt
        self.done.append((target, params.training_seed))
        return (target, params.training_seed) not in self.failing

    def repro(self, clone: Paths, *targets: str) -> None:
        write_json(clone.scorer / "weights.json", self.judge)
        for target in targets:
            if not self.did(clone, target):
                raise SalonError(f"`dvc repro` failed in {target}")

    def succeeds(self, clone: Paths, stage: str, name: str) -> bool:
        seed = load_params(clone.params).training_seed
        if stage == "train":
            write_json(clone.method(name) / "training.json", {"own": {"train_minutes": 0.5}})
        elif stage == "evaluate":
            made = make_replicate(seed, {5: 0.8, 6: 0.6, 7: 0.7}[seed], 0.3)
            raw = made.judgement.to_json() | {"cost": COST}
            write_json(clone.metrics(name), raw)
            for split, marks in made.verdicts.items():
                rows = [
                    {"id": f"{n}", "all": mark == "1", "wanted": {"concept": f"{n // 2}", "style": ""}}
                    for n, mark in enumerate(marks)
                ]
                write_json(clone.samples(name) / f"{split}.json", rows)
        return self.did(clone, f"{stage} {name}")


COST = {
    "train_flops": 1e12,
    "train_minutes": 1.0,
    "parameters": 1,
    "training_parameters": 0,
    "images_seen": 1,
    "latency_ms_p50": 1.0,
    "latency_ms_p95": 1.0,
    "images_per_second_b16": 1.0,
    "peak_memory_gb": 1.0,
    "selection_flops": 1e9,
    "selection_minutes": 0.1,
    "picture_flops": 1e6,
    "device": "cpu",
    "cpu_cores": 2,
}


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    stages = Stages()
    monkeypatch.setattr(seeds, "make_clone", stages.clone)
    monkeypatch.setattr(seeds, "repro", stages.repro)
    monkeypatch.setattr(seeds, "_succeeds", stages.succeeds)
    return stages


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    write_tiny_params(tmp_path)
    paths = Paths(tmp_path)
    paths.profiles.mkdir()
    (paths.profiles / "smoke.yaml").write_text(f"seed: {FIRST}\n", encoding="utf-8")
    return paths


def run(paths: Paths, *methods: str, count: int = 3, page: Path | None = None) -> SeedStudy:
    seeds.run(paths, profile="smoke", count=count, methods=methods, page=page)
    study = SeedStudy.load(paths.seeds)
    assert study is not None
    return study


def trained(study: SeedStudy) -> dict[str, list[int]]:
    return {name: [each.seed for each in one.finished] for name, one in study.methods.items()}


def test_towers_codecs_and_methods_are_trained_anew_and_data_and_jury_once(
    stages: Stages, paths: Paths
) -> None:
    study = run(paths, "gan", "vqvae", count=2)
    assert stages.done == [
        ("scorer", 5), ("train_clip", 5), ("codec@vqvae", 5), ("sentinels", 5),
        ("train gan", 5), ("select gan", 5), ("evaluate gan", 5),
        ("train vqvae", 5), ("select vqvae", 5), ("evaluate vqvae", 5),
        ("scorer", 6), ("train_clip", 6), ("codec@vqvae", 6),
        ("train gan", 6), ("select gan", 6), ("evaluate gan", 6),
        ("train vqvae", 6), ("select vqvae", 6), ("evaluate vqvae", 6),
    ]  # fmt: skip
    assert trained(study) == {"gan": [5, 6], "vqvae": [5, 6]}
    assert not (paths.scratch / "seeds").exists()


def test_the_whole_record_is_kept_and_read_again(stages: Stages, paths: Paths, tmp_path: Path) -> None:
    study = run(paths, "gan", page=tmp_path / "page.md")
    kept = study.methods["gan"].finished[1]
    planted = make_replicate(6, 0.6, 0.3)
    assert kept.verdicts == planted.verdicts
    assert kept.judgement.splits == planted.judgement.splits
    assert kept.judgement.cost is not None
    assert study.clusters["test"][:4] == [0, 0, 1, 1]
    figure = study.trained("gan", "test/alignment/all")
    assert figure.scores is not None
    assert figure.scores.shape == (3, 400)
    assert figure.values.tolist() == figure.scores.mean(axis=1).tolist() == [0.8, 0.6, 0.7]
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "seeds 5, 6 and 7 at the profile `smoke`" in page
    assert "<br>80.0, 60.0, 70.0 |" in page


def test_a_divergence_is_counted_and_stops_nobody(stages: Stages, paths: Paths, capsys) -> None:
    stages.failing = {("train gan", 6)}
    study = run(paths, "gan", "diffusion")
    assert trained(study) == {"gan": [5, 7], "diffusion": [5, 6, 7]}
    assert study.methods["gan"].diverged == [6]
    assert study.ranked == ["diffusion"]
    assert "gan: 1 of 3 trainings diverged, too few are left to rank it" in capsys.readouterr().out


def test_methods_on_a_codec_that_fails_diverge_with_it(stages: Stages, paths: Paths) -> None:
    stages.failing = {("codec@vqvae", 5)}
    study = run(paths, "gan", "vqvae", "dalle")
    assert trained(study) == {"gan": [5, 6, 7], "vqvae": [6, 7], "dalle": [6, 7]}
    assert study.methods["dalle"].diverged == [5]
    # the gate of the sentinels needs codecs, and waits for those of the next seed
    assert [target for target in stages.done if target[0] == "sentinels"] == [("sentinels", 6)]


def test_killed_and_started_again_it_goes_on_with_what_is_missing(stages: Stages, paths: Paths) -> None:
    stages.killed_at = ("train vqvae", 6)
    with pytest.raises(KeyboardInterrupt):
        run(paths, "gan", "vqvae")
    kept = SeedStudy.load(paths.seeds)
    assert kept is not None
    assert trained(kept) == {"gan": [5, 6], "vqvae": [5]}
    (clone,) = (paths.scratch / "seeds").iterdir()
    (clone / "mark").touch()

    stages.killed_at, stages.done = ("train gan", 7), []
    with pytest.raises(KeyboardInterrupt):
        run(paths, "gan", "vqvae")
    assert (clone / "mark").exists(), "it works on in the same clone"
    assert [t for t in stages.done if t[0].startswith("train ")] == [("train vqvae", 6)]
    stages.killed_at, stages.done = None, []
    study = run(paths, "gan", "vqvae")
    assert trained(study) == {"gan": [5, 6, 7], "vqvae": [5, 6, 7]}
    assert {seed for _, seed in stages.done} == {7}


def test_what_is_complete_is_only_shown_and_what_diverged_is_not_tried_again(
    stages: Stages, paths: Paths
) -> None:
    stages.failing = {("train gan", 6)}
    run(paths, "gan")
    stages.failing, stages.done = set(), []
    run(paths, "gan")
    assert stages.done == []
    run(paths, "gan", "clip")
    assert {target for target, _ in stages.done if target.startswith("train ")} == {"train clip"}


@pytest.mark.parametrize("change", ["settings", "code", "conditions"])
def test_trainings_of_something_else_are_not_mixed_in(stages: Stages, paths: Paths, change: str) -> None:
    study = run(paths, "gan", count=2)
    study.made = replace(study.made, **{change: "0" * 16})
    study.save(paths.seeds)
    before = paths.seeds.read_bytes()
    with pytest.raises(SalonError, match=f"trainings under other {change}.*move it away"):
        run(paths, "gan")
    assert paths.seeds.read_bytes() == before


def test_trainings_of_earlier_code_are_shown_and_said_to_be(stages: Stages, paths: Paths, capsys) -> None:
    study = run(paths, "gan")
    assert "another state of the code" not in capsys.readouterr().out
    study.made = replace(study.made, code="0" * 16)
    study.save(paths.seeds)
    stages.done = []
    run(paths, "gan")
    assert "These trainings are of another state of the code." in capsys.readouterr().out
    assert stages.done == []


def test_another_judge_is_not_mixed_in(stages: Stages, paths: Paths) -> None:
    run(paths, "gan", count=2)
    stages.judge = "other"
    with pytest.raises(SalonError, match="other data or under other judges"):
        run(paths, "gan", count=3)


def test_other_prompts_are_not_mixed_in(stages: Stages, paths: Paths) -> None:
    study = run(paths, "gan", count=2)
    study.prompts["test"] = "0" * 16
    study.save(paths.seeds)
    with pytest.raises(SalonError, match="gan with seed 7 was judged on other prompts of test"):
        run(paths, "gan", count=3)


def test_what_cannot_be_judged_is_no_divergence(stages: Stages, paths: Paths) -> None:
    stages.failing = {("evaluate dalle", 5)}
    with pytest.raises(SalonError, match="dalle was trained and could not be judged"):
        run(paths, "dalle")
    assert not paths.seeds.exists()


def test_a_stage_that_is_ended_from_outside_is_no_divergence(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.CompletedProcess([], -signal.SIGTERM)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: ended)
    with pytest.raises(SalonError, match="ended from outside: run the same command again"):
        seeds._succeeds(paths, "train", "gan")


def test_one_training_shows_no_spread_and_unknown_methods_are_named(stages: Stages, paths: Paths) -> None:
    with pytest.raises(SalonError, match="two trainings at least"):
        run(paths, "gan", count=1)
    with pytest.raises(SalonError, match="unknown method 'gun'"):
        run(paths, "gun")
    assert not paths.seeds.exists()


def test_a_file_of_an_earlier_release_says_what_to_do(stages: Stages, paths: Paths) -> None:
    old = {"all_right": [0.8], "verdicts": ["1"], "minutes": [0.5], "diverged": 0}
    write_json(paths.seeds, {"profile": "smoke", "seeds": [5], "methods": {"gan": old}})
    with pytest.raises(SalonError, match=r"not what `salon seeds` writes now.*delete it"):
        run(paths, "gan")
    assert read_json(paths.seeds)["seeds"] == [5]


def test_a_seed_of_training_leaves_the_data_alone(paths: Paths) -> None:
    """Towers and codecs follow the seed of training; ingestion has the other one."""
    raw = yaml.safe_load(paths.params.read_text(encoding="utf-8"))
    raw["training"]["seed"] = 77
    paths.params.write_text(yaml.safe_dump(raw), encoding="utf-8")
    params = load_params(paths.params)
    assert (params.seed, params.training_seed) == (20261, 77)
    stages = yaml.safe_load((Path(__file__).parents[2] / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name in ("train_clip", "codec"):
        assert "training.seed" in stages[name].get("do", stages[name])["params"]
    assert not any("training" in param for param in stages["ingest"]["params"])
