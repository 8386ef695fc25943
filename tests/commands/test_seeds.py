"""Several trainings of each method: what is the same for all of them, and what a failure does."""

from pathlib import Path

import numpy as np
import pytest

from salon.commands import seeds
from salon.errors import SalonError
from salon.files import read_json, write_json
from salon.params import load_params
from salon.paths import Paths
from salon.report.figures import SeedFigures, SeedStudy
from salon.report.seeds import spread_over_seeds, told_apart
from tiny import write_tiny_params


class Stages:
    """Stands in for DVC and for the processes of the stages: what each training gives is known."""

    def __init__(self) -> None:
        self.shared: tuple[str, ...] = ()
        self.trained: list[tuple[str, int]] = []

    def clone(self, paths: Paths, folder: Path) -> Paths:
        clone = Paths(folder / "clone")
        clone.profiles.mkdir(parents=True)
        clone.params.write_text(paths.params.read_text(encoding="utf-8"), encoding="utf-8")
        (clone.profiles / "smoke.yaml").write_text("seed: 5\n", encoding="utf-8")
        return clone

    def repro(self, clone: Paths, *targets: str) -> None:
        self.shared = targets

    def succeeds(self, clone: Paths, stage: str, name: str) -> bool:
        params = load_params(clone.params)
        seed = params.training_seed
        assert params.seed == 5, "the seed of data, towers and codecs stays"
        if stage == "train":
            self.trained.append((name, seed))
            write_json(clone.method(name) / "training.json", {"own": {"train_minutes": 0.5}})
            return (name, seed) != ("gan", 6)
        share = {5: 0.8, 6: 0.6, 7: 0.7}[seed]
        write_json(
            clone.metrics(name),
            {"test": {"alignment": {"all": {"value": share, "low": 0, "high": 1, "n": 10}}}},
        )
        marks = [{"all": place < 10 * share} for place in range(10)]
        write_json(clone.samples(name) / "test.json", marks)
        return name != "dalle"


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
    return Paths(tmp_path)


def test_a_divergence_is_counted_and_stops_nobody(stages: Stages, paths: Paths, capsys) -> None:
    seeds.run(paths, profile="smoke", count=3, methods=["gan", "diffusion"])
    assert stages.shared == ("sentinels", "train_clip")
    assert stages.trained == [(name, seed) for seed in (5, 6, 7) for name in ("gan", "diffusion")]
    assert read_json(paths.seeds) == {
        "profile": "smoke",
        "seeds": [5, 6, 7],
        "methods": {
            "gan": {
                "all_right": [0.8, 0.7],
                "verdicts": ["1111111100", "1111111000"],
                "minutes": [0.5, 0.5],
                "diverged": 1,
            },
            "diffusion": {
                "all_right": [0.8, 0.6, 0.7],
                "verdicts": ["1111111100", "1111110000", "1111111000"],
                "minutes": [0.5, 0.5, 0.5],
                "diverged": 0,
            },
        },
    }
    lines = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line}
    assert lines["diffusion"] == ["70.0%", "10.0%", "60.0%", "80.0%", "0.50", "0"]
    assert lines["gan"] == ["75.0%", "7.1%", "70.0%", "80.0%", "0.50", "1"]


def test_codecs_are_trained_once_and_only_where_they_are_used(stages: Stages, paths: Paths) -> None:
    seeds.run(paths, profile="smoke", count=2, methods=["vqvae"])
    assert stages.shared == ("sentinels", "train_clip", "codec@vqvae")


def test_what_cannot_be_judged_is_no_divergence(stages: Stages, paths: Paths) -> None:
    with pytest.raises(SalonError, match="dalle was trained and could not be judged"):
        seeds.run(paths, profile="smoke", count=2, methods=["dalle"])


def test_one_training_shows_no_spread_and_unknown_methods_are_named(stages: Stages, paths: Paths) -> None:
    with pytest.raises(SalonError, match="two trainings at least"):
        seeds.run(paths, profile="smoke", count=1)
    with pytest.raises(SalonError, match="unknown method 'gun'"):
        seeds.run(paths, profile="smoke", count=2, methods=["gun"])
    assert not paths.seeds.exists()


def make_study(**shares: list[float]) -> SeedStudy:
    """Trainings that are right on so many of 400 prompts, the easier ones first."""
    rng = np.random.default_rng(0)
    order = rng.permutation(400)
    methods = {}
    for name, of_seeds in shares.items():
        rows = ["".join(str(int(place < 400 * share)) for place in order) for share in of_seeds]
        methods[name] = SeedFigures(of_seeds, [1.0] * len(rows), 0, rows)
    return SeedStudy("smoke", list(range(3)), methods)


def test_a_lead_that_another_seed_would_turn_is_no_lead() -> None:
    """The same means: told apart where seeds agree, and not where each seed says something else."""
    steady = make_study(gan=[0.70, 0.71, 0.69], clip=[0.80, 0.81, 0.79])
    (sentence,) = told_apart(steady)
    assert sentence.startswith("Over prompts and seeds, clip leads gan by 10.0 points (")
    lucky = make_study(gan=[0.50, 0.90, 0.70], clip=[0.60, 0.80, 1.0])
    assert told_apart(lucky) == ["Over prompts and seeds, nothing tells the methods apart."]
    narrow, wide = (spread_over_seeds(study, bootstrap_samples=2000)["gan"] for study in (steady, lucky))
    assert narrow.value == pytest.approx(wide.value) == pytest.approx(0.7)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_seeds_without_verdicts_say_nothing_of_prompts() -> None:
    study = SeedStudy("smoke", [1, 2], {"gan": SeedFigures([0.5, 0.6], [1.0, 1.0], 0, [])})
    assert spread_over_seeds(study, bootstrap_samples=100) == {}
    assert told_apart(study) == []


def test_a_method_that_always_diverges_has_no_mean() -> None:
    (line,) = seeds.table({"gan": SeedFigures(diverged=3)})[2:]
    assert line.split() == ["gan", "nan%", "nan%", "nan%", "nan%", "nan", "3"]
