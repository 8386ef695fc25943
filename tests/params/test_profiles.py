"""Profiles are laid over params.yaml whole or not at all; the smoke run works on a copy of the workspace."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from torch import nn

from salon.codecs import Codec, DiscreteCodec, PixelCodec, read_codec_config
from salon.commands import profile as stage
from salon.commands import smoke
from salon.errors import SalonError
from salon.methods.base import DataShape, FrozenNets, read_config
from salon.params import load_params
from salon.params.profiles import profile_names
from salon.paths import Paths
from salon.towers.tower import TwoTowers

REPOSITORY = Path(__file__).parents[2]
PROFILES = profile_names(Paths(REPOSITORY))


@pytest.fixture
def workspace(tmp_path: Path) -> Paths:
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    shutil.copytree(REPOSITORY / "profiles", tmp_path / "profiles")
    return Paths(tmp_path)


def leaves(tree: object, prefix: str = "") -> dict[str, object]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        key: value for name, inner in tree.items() for key, value in leaves(inner, f"{prefix}.{name}").items()
    }


@pytest.mark.parametrize(
    "name", ["scorer", "scorer.retriever", "clip", "budget", "training", "select", "register", "serve"]
)
def test_a_value_that_params_yaml_states_is_no_default_as_well(name: str):
    section: object = load_params(REPOSITORY / "params.yaml")
    stated = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    for part in name.split("."):
        section = getattr(section, "register_" if part == "register" else part)
        stated = stated.get(part, {})
    fields = type(section).model_fields
    twice = {key: value for key, value in stated.items() if not fields[key].is_required()}
    if name == "training":  # may be left out as a whole: each default is what fits any machine
        assert twice == {key: fields[key].default for key in stated}
    else:
        assert not twice


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_changes_what_it_names_and_nothing_else(workspace: Paths, name: str) -> None:
    before = leaves(yaml.safe_load(workspace.params.read_text()))
    profile = leaves(yaml.safe_load((workspace.profiles / f"{name}.yaml").read_text()))
    stage.run(workspace, name)
    after = leaves(yaml.safe_load(workspace.params.read_text()))
    assert after == {**before, **profile}
    load_params(workspace.params)


@pytest.mark.parametrize("name", PROFILES)
def test_the_networks_of_a_profile_fit_its_pictures(workspace: Paths, name: str) -> None:
    """Every codec and method is built at the profile's sizes; sides that do not divide are refused there."""
    stage.run(workspace, name)
    params = load_params(workspace.params)
    side = getattr(params.ingest, params.ingest.source).image_size
    codecs: dict[str, Codec] = {"pixels": PixelCodec()}
    for codec_name, raw in params.codecs.items():
        family, config = read_codec_config(codec_name, raw)
        start = codecs[config.start]
        codecs[codec_name] = family(
            config.following(start.config) if isinstance(start, DiscreteCodec) else config
        )
    shape = DataShape(image_size=side, text_width=params.clip.text_width, pooled_width=8, concept_width=8)
    towers = TwoTowers(nn.Identity(), nn.Identity())  # type: ignore[arg-type]
    for method_name, raw in params.methods.items():
        method_class, method_config = read_config(method_name, raw)
        method = method_class(method_config, shape, FrozenNets(codecs[method_config.codec], towers))
        parameters = sum(p.numel() for p in method.parameters())
        assert parameters < params.register_.max_parameters


def test_comments_and_numbers_stay_as_a_person_wrote_them(workspace: Paths) -> None:
    text = workspace.params.read_text()
    comments = re.findall(r"#.*", text)
    assert comments
    stage.run(workspace, "smoke")
    after = workspace.params.read_text()
    assert re.findall(r"#.*", after) == comments
    assert "lr: 2.0e-3" in after
    assert re.search(r"^    styles: \[.*\]$", after, re.MULTILINE)


def test_the_gates_are_not_lowered_by_the_smoke_profile(workspace: Paths) -> None:
    default = load_params(workspace.params)
    stage.run(workspace, "smoke")
    smoke_params = load_params(workspace.params)
    assert smoke_params.scorer.min_accuracy == default.scorer.min_accuracy
    as_many = {"prompts": default.register_.prompts}  # fewer show less, so that less is promoted
    assert smoke_params.register_.prompts < default.register_.prompts
    assert smoke_params.register_.model_copy(update=as_many) == default.register_


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("scorer: {max_stepz: 3}", "unknown key 'scorer.max_stepz': did you mean 'max_steps'"),
        ("scorer: {max_steps: -1}", "scorer.max_steps"),
        ("methods: {diffusion: {lrr: 1}}", "lrr"),
        ("- a\n- b", "expected a mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_bad_profile_is_refused_and_nothing_is_written(workspace: Paths, text: str, complaint: str) -> None:
    before = workspace.params.read_bytes()
    (workspace.profiles / "bad.yaml").write_text(text)
    with pytest.raises(SalonError, match=re.escape(complaint)):
        stage.run(workspace, "bad")
    assert workspace.params.read_bytes() == before
    assert sorted(path.name for path in workspace.root.iterdir()) == ["params.yaml", "profiles"]


@pytest.mark.parametrize("name", ["absent", "../params"])
def test_an_unknown_profile_is_named_with_the_known_ones(workspace: Paths, name: str) -> None:
    with pytest.raises(SalonError, match=r"known profiles are .*smoke"):
        stage.run(workspace, name)


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def failing_workspace(tmp_path: Path) -> Paths:
    """A git repository whose second stage fails, with files of every kind."""
    root = tmp_path / "workspace"
    (root / "sub").mkdir(parents=True)
    git(root, "init", "--quiet")
    (root / ".gitignore").write_text("/ignored\n/good\n")
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    (root / "dvc.yaml").write_text(
        "stages:\n  good: {cmd: echo well > good, outs: [good]}\n  bad: {cmd: exit 3, deps: [good]}\n"
    )
    (root / "tracked").write_text("1")
    (root / "deleted").write_text("2")
    git(root, "add", "--all")
    (root / "deleted").unlink()
    (root / "sub" / "новый файл").write_text("3")
    (root / "ignored").write_text("4")
    return Paths(root)


def test_a_clone_holds_what_git_would_and_is_its_own_repository(
    failing_workspace: Paths, tmp_path: Path
) -> None:
    clone = smoke.make_clone(failing_workspace, tmp_path / "clone")
    assert git(clone.root, "status", "--porcelain") == ""
    names = {path.relative_to(clone.root).as_posix() for path in clone.root.rglob("*") if path.is_file()}
    names = {name for name in names if not name.startswith(".git/")}
    assert names == {".gitignore", ".dvc/config", "dvc.yaml", "tracked", "sub/новый файл"}
    assert git(clone.root, "rev-parse", "--show-toplevel") == str(clone.root.resolve())


def test_a_failing_stage_is_named(
    failing_workspace: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clone = smoke.make_clone(failing_workspace, tmp_path / "clone")
    with pytest.raises(SalonError, match=r"failed with exit status .* in bad"):
        smoke.repro(clone)
    assert "Running stage 'good'" in capsys.readouterr().out
    assert (clone.root / "good").read_text() == "well\n"


def test_stages_are_timed(failing_workspace: Paths, tmp_path: Path) -> None:
    clone = smoke.make_clone(failing_workspace, tmp_path / "clone")
    assert list(smoke.repro(clone, "good")) == ["good"]
    assert smoke.repro(clone, "good") == {}


def test_the_clone_never_sees_the_workspaces_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////somewhere/mlflow.db")
    assert "MLFLOW_TRACKING_URI" not in smoke.clone_environment(tmp_path)


def test_a_folder_in_use_is_not_overwritten(failing_workspace: Paths, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    with pytest.raises(SalonError, match="not empty"):
        smoke.run(failing_workspace, keep=tmp_path / "kept")


def test_outside_git_there_is_no_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with pytest.raises(SalonError, match="no git repository"):
        smoke.make_clone(Paths(tmp_path), tmp_path / "clone")
