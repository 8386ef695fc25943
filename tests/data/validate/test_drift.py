"""Data against the data accepted before: each way of drifting is noticed, and only that one."""

import copy
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from salon.data.validate.drift import compare_profiles, length_distance, read_accepted
from salon.errors import DriftError, GateError, SalonError
from salon.files import read_json, write_json
from salon.params import load_params
from salon.stages import validate
from spoiling import World
from tiny import REPOSITORY, write_tiny_params

PROFILE: dict[str, Any] = {
    "format": 1,
    "rows": {"train": 1000, "val": 100},
    "sources": ["x"],
    "languages": {"en": 0.5, "ru": 0.5},
    "values": {"concept": [f"thing {i}" for i in range(20)], "style": ["flat", "round"]},
    "words": {},
    "caption_lengths": {"10": 50, "20": 50},
    "repeated_pictures": 0.1,
}
WORDY = PROFILE | {"values": {}, "words": {f"word{i}": 0.02 for i in range(100)} | {"rare": 0.006}}


def drifted(accepted: dict[str, Any], now: dict[str, Any], **limits: float) -> list[str]:
    settings = load_params(REPOSITORY / "params.yaml").validate_.drift
    found = compare_profiles(accepted, now, settings.model_copy(update=limits))
    assert [figure.name for figure in found] == [
        "lost_names", "new_names", "caption_lengths", "languages", "repeated_pictures", "rows",
    ]  # fmt: skip
    return [figure.name for figure in found if figure.drifted]


def changed(profile: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return copy.deepcopy(profile) | changes


@pytest.mark.parametrize("profile", [PROFILE, WORDY])
def test_data_are_like_themselves(profile: dict[str, Any]) -> None:
    assert drifted(profile, changed(profile)) == []


@pytest.mark.parametrize(
    ("now", "limits", "names"),
    [
        (changed(PROFILE, values={**PROFILE["values"], "style": ["flat"]}), {}, ["lost_names"]),
        (changed(PROFILE, values={"concept": PROFILE["values"]["concept"]}), {}, ["lost_names"]),
        (changed(PROFILE, values={**PROFILE["values"], "style": ["flat"]}), {"max_lost": 0.1}, []),
        (changed(PROFILE, values={**PROFILE["values"], "style": ["flat", "round", "new"]}), {}, []),
        (changed(PROFILE, values={**PROFILE["values"], "mood": ["good", "bad"]}), {}, ["new_names"]),
        (changed(PROFILE, caption_lengths={"10": 39, "20": 61}), {}, ["caption_lengths"]),
        (changed(PROFILE, caption_lengths={"10": 41, "20": 59}), {}, []),
        (changed(PROFILE, languages={"en": 0.56, "ru": 0.44}), {}, ["languages"]),
        (changed(PROFILE, languages={"en": 0.5, "ru": 0.44, "de": 0.06}), {}, ["languages"]),
        (changed(PROFILE, repeated_pictures=0.13), {}, ["repeated_pictures"]),
        (changed(PROFILE, repeated_pictures=0.0), {}, []),
        (changed(PROFILE, rows={"train": 1000, "val": 89}), {}, ["rows"]),
        (changed(PROFILE, rows={"train": 5000, "val": 100}), {}, []),
    ],
)
def test_each_way_to_drift(now: dict[str, Any], limits: dict[str, float], names: list[str]) -> None:
    assert drifted(PROFILE, now, **limits) == names


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ({**WORDY["words"], "rare": 0.02}, []),  # known before, if not frequent
        ({word: share for word, share in WORDY["words"].items() if word != "rare"}, []),
        ({word: share for word, share in WORDY["words"].items() if word != "word3"}, ["lost_names"]),
        (WORDY["words"] | {f"new{i}": 0.02 for i in range(6)}, ["new_names"]),
    ],
)
def test_words_stand_in_for_attributes(words: dict[str, float], names: list[str]) -> None:
    assert drifted(WORDY, changed(WORDY, words=words)) == names


def test_distance_of_lengths_by_hand() -> None:
    assert length_distance({"1": 1}, {"1": 5}) == 0
    assert length_distance({"1": 1}, {"2": 1}) == 1
    assert length_distance({"1": 1, "3": 1}, {"2": 2}) == 0.5


def test_a_damaged_or_foreign_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "accepted.json"
    assert read_accepted(path) is None
    path.write_text("{")
    with pytest.raises(SalonError, match=r"accepted\.json is no JSON \([^:]*: .*\): `git checkout` it"):
        read_accepted(path)
    path.write_text('{"format": 99}')
    with pytest.raises(SalonError, match="another version of Salon"):
        read_accepted(path)


@pytest.fixture
def world(tiny_world: Path) -> World:
    return World(tiny_world)


def test_accepted_data_pass_and_changed_ones_do_not(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    params = write_tiny_params(world.root)
    validate.run(params, world.paths)
    assert "No data were accepted yet" in world.paths.validation_summary.read_text()
    validate.run(params, world.paths, accept=True)
    accepted = read_json(world.paths.accepted)
    assert accepted["rows"] == {"train": 240, "val": 60, "test": 60, "novel": 60}
    assert accepted["values"]["concept"] == ["owl", "pizza", "rocket", "umbrella"]
    assert accepted["repeated_pictures"] == 0
    validate.run(params, world.paths, fail_on_drift=True)

    accepted["values"]["concept"].append("gryphon")
    write_json(world.paths.accepted, accepted)
    with pytest.raises(DriftError, match=r"lost_names: concept 'gryphon' .*limit: 0%"):
        validate.run(params, world.paths, fail_on_drift=True)
    assert read_json(world.paths.validation)["verdict"] == "passed"  # they are fit to train on
    summary = world.paths.validation_summary.read_text()
    assert summary.startswith("# Data: passed, but not like the accepted data")
    capsys.readouterr()
    validate.run(params, world.paths)  # the pipeline goes on
    assert "note: the data are not like those last accepted" in capsys.readouterr().out


def test_summary_escapes_captions_and_goes_to_the_job(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = tmp_path / "summary.md"
    job.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(job))
    world.change("val", caption="<script> | **x** `y`\nz", seal=True)
    with pytest.raises(GateError):
        validate.run(write_tiny_params(world.root), world.paths)
    text = world.paths.validation_summary.read_text()
    assert text.startswith("# Data: 1 of 25 checks failed")
    assert "## captions\\_match\\_attributes: 1 of 420 fail" in text
    assert "\\<script\\> \\| \\*\\*x\\*\\* \\`y\\`" in text
    assert not re.search(r"(?<!\\)<script", text)
    assert job.read_text() == "before\n" + text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert tables
    assert len({line.replace("\\|", "").count("|") for line in tables}) <= 3  # one width per table


def test_metadata_alone_are_judged_without_a_verdict(world: World) -> None:
    params = write_tiny_params(world.root)
    validate.run(params, world.paths)
    world.change("val", image={"bytes": b"broken", "path": ""})
    validate.run(params, world.paths, metadata_only=True)
    assert not world.paths.validation.exists(), "pictures that nobody looked at must not pass the gate"
    text = world.paths.validation_summary.read_text()
    assert "| images\\_decode | not applicable | 0 |" in text
    world.change("val", caption="")
    with pytest.raises(GateError, match="captions_not_blank"):
        validate.run(params, world.paths, metadata_only=True)


def salon(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if name != "GITHUB_STEP_SUMMARY"}
    command = [sys.executable, "-m", "salon", "validate", *arguments]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


def test_any_source_is_checked_and_the_workspace_stays_as_it_is(world: World, tmp_path: Path) -> None:
    """A folder of pictures beside a workspace that holds another world."""
    pictures = tmp_path / "drawings"
    pictures.mkdir()
    for i in range(40):
        colour = (40 * (i % 6), 60 * (i % 4), 80 * (i % 3))
        picture = Image.effect_noise((24, 24), 40 + i).convert("RGB")
        picture.paste(colour, (i % 12, 2, i % 12 + 9, 20))
        picture.save(pictures / f"{i}.png")
        (pictures / f"{i}.txt").write_text(f"a block number {i} on noise")
    write_tiny_params(
        world.root,
        ingest={"imagefolder": {"image_size": 24, "splits": {"val": 0.2, "test": 0.2, "novel": 0.2}}},
        validate={"min_rows": 2},
    )
    before = {path: path.read_bytes() for path in world.root.rglob("*") if path.is_file()}
    params = load_params(world.paths.params)
    asked = {"source": "imagefolder", "path": pictures}
    validate.run_on(params, world.paths, **asked, report=tmp_path / "report.md")
    assert (tmp_path / "report.md").read_text().startswith("# Data: passed\n")
    (pictures / "7.txt").write_text("x" * 201)
    with pytest.raises(GateError, match="caption_too_long"):
        validate.run_on(params, world.paths, **asked)
    with pytest.raises(SalonError, match="--source imagefolder needs --path"):
        validate.run_on(params, world.paths, source="imagefolder", path=None)
    with pytest.raises(SalonError, match="imagefoldr"):
        validate.run_on(params, world.paths, source="imagefoldr", path=pictures)
    assert {path: path.read_bytes() for path in world.root.rglob("*") if path.is_file()} == before


def test_exit_status_says_what_is_wrong(world: World) -> None:
    assert (SalonError.exit_code, GateError.exit_code, DriftError.exit_code) == (1, 2, 3)
    write_tiny_params(world.root)
    assert salon(world.root, "--sauce", "imagefolder").returncode == 1
    write_json(world.paths.accepted, PROFILE)
    drift = salon(world.root, "--fail-on-drift")
    assert drift.returncode == 3, drift.stderr
    assert "not like those last accepted" in drift.stderr
