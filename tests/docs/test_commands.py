"""Whatever the pages tell a reader to type is typed here, page by page, or run by a test that is named."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from elsewhere import ELSEWHERE
from safetensors.torch import load_file, save_file
from sqlalchemy.engine import make_url

from pages import REPOSITORY, Step, commands, pages, steps
from pipeline_clone import Clone
from reader import Reader
from salon.commands import sync
from salon.data.dataset import Dataset
from salon.files import read_json, write_json
from salon.images import image_grid, to_float
from salon.params import load_params
from salon.paths import Paths
from salon.stages import register

PAGES = {page.relative_to(REPOSITORY).as_posix(): page.read_text(encoding="utf-8") for page in pages()}
TYPED = [step.text for text in PAGES.values() for step in steps(text) if step.kind == "command"]
ALL = [command for text in PAGES.values() for command in commands(text)]
STORE = ("mlflow.db", "mlflow.db.lock", "mlartifacts")
TERMINAL = ("cd ", "export ", "unset ", "source ")
"""What every terminal needs anew; so does every server. All else is typed once."""


@pytest.fixture(scope="module")
def workspace(clone: Clone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has after `make repro`, with one method registered twice, and some pictures."""
    root = tmp_path_factory.mktemp("reader") / "salon"
    shutil.copytree(clone.root, root, symlinks=True, ignore=shutil.ignore_patterns(*STORE))
    paths, params = Paths(root), load_params(root / "params.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        weights = paths.selected("diffusion") / "model.safetensors"
        trained = load_file(weights)
        save_file({name: 1.001 * value for name, value in trained.items()}, weights)
        sync.run(params, paths)
        save_file(trained, weights)
        registration = read_json(paths.registration("diffusion"))
        register.run(params, paths, "diffusion", promote=True)
        write_json(paths.registration("diffusion"), registration)
    for number, picture in enumerate(to_float(Dataset(paths.interim)["val"].images[:3])):
        image_grid(picture[None], columns=1, zoom=1).save(root / f"picture{number}.png")
    Reader(root).type("git add --all && git commit --quiet --message 'Results'")
    return root


@pytest.fixture(scope="module")
def typed() -> set[tuple[str, str]]:
    """What was typed on the pages before, and with which registry."""
    return set()


@pytest.mark.pipeline
@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_what_works(
    page: str, workspace: Path, typed: set[tuple[str, str]], database: str
) -> None:
    settings = (workspace / "params.yaml").read_text(encoding="utf-8")
    reader = Reader(workspace, {"postgresql://salon:<password>@<database host>/salon": database})
    try:
        for step in steps(PAGES[page]):
            known = {text for text, registry in typed if registry == reader.registry}
            if is_due(step, known):
                typed.add((step.text, reader.registry))
                reader.follow(step)
    finally:
        reader.leave()
        (workspace / "params.yaml").write_text(settings, encoding="utf-8")


def is_due(step: Step, typed: set[str]) -> bool:
    """Whether the reader does it now."""
    if step.kind == "settings":
        return True
    if step.text in ELSEWHERE:
        return False
    if step.kind == "mention" and step.text in TYPED:
        return False
    if step.kind == "mention" and any(full.startswith(f"{step.text} ") for full in ALL):
        return False  # the first words of what stands in full elsewhere
    return step.text not in typed or step.text.startswith(TERMINAL) or Reader.is_server(step.text)


@pytest.mark.parametrize("command", ELSEWHERE)
def test_what_is_run_elsewhere_is_run(command: str) -> None:
    assert command in ALL, "no page says that any more"
    file, _, name = ELSEWHERE[command].test.partition("::")
    tree = ast.parse((REPOSITORY / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_the_first_line_gets_a_whole_repository(tmp_path: Path) -> None:
    command = next(command for command in ALL if command.startswith("git clone"))
    script = command.replace("<this repository>", str(REPOSITORY)) + " && make help && test -f params.yaml"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "make repro" in done.stdout


def test_cuda_wheels_are_asked_for_where_torch_is_installed(tmp_path: Path) -> None:
    arguments = "--index-url https://wheels.example/cuda"
    plan = make("--dry-run", "env", f"TORCH_PIP_ARGS={arguments}", f"VENV={tmp_path / 'venv'}")
    assert f'install {arguments} "torch==' in plan
    assert plan.count(arguments) == 1


def test_the_style_is_kept() -> None:
    plan = make("--dry-run", "lint", f"VENV={sys.prefix}", "--assume-old", f"{sys.prefix}/.complete")
    checks = re.findall(r"^\S*/bin/(.*)$", plan, re.MULTILINE)
    assert checks == ["ruff check", "ruff format --check", "mypy"]
    for check in checks[:2]:
        command = [sys.executable, "-m", *check.split()]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_the_server_is_of_the_client_s_version() -> None:
    (line,) = (command for command in ALL if command.startswith("pip install 'mlflow"))
    mlflow, driver = re.findall(r"'([^']+)'", line)
    assert mlflow in (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["optional-dependencies"]["postgres"] == [driver]
    assert make_url("postgresql://host/salon").get_driver_name() == driver.partition("[")[0]


def test_extras_on_the_pages_exist() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"extra `(\w+)`|pip install -e '\.\[(\w+)\]'", "\n".join(PAGES.values()))
    assert {name for pair in named for name in pair if name} <= set(project["optional-dependencies"])
    assert ("", "hub") in named


def test_a_command_that_fails_and_a_gap_that_nobody_fills_are_noticed(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    reader.type("export N=2 && cd /")
    assert reader.type("echo $N; pwd").split() == ["2", "/"]  # as in a terminal
    with pytest.raises(AssertionError, match="No such file"):
        reader.type("cat no-such-page | cat")
    with pytest.raises(AssertionError, match="no stand-in"):
        reader.follow(Step("command", "curl http://<your server>"))


def make(*arguments: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", *arguments]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
