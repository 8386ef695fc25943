"""The shape of the code: imports run one way, the command line is quick, the Makefile explains itself."""

import ast
import os
import re
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "src" / "salon"

# from the top down: a room imports from itself and from those below it, and no two share a level
LEVELS = (
    "__main__",
    "cli",
    "commands",
    "stages",
    "report",
    "server",
    "evaluation",
    "registry",
    "inference",
    "judging",
    "training",
    "tracking",
    "methods",
    "towers",
    "codecs",
    "data.validate",
    "data.ingest.worlds",
    "data.ingest",
    "data",
    "nn",
    "devices",
    "families",
    "params",
    "fingerprint",
    "weights",
    "files",
    "templates",
    "images",
    "seeding",
    "paths",
    "cpus",
    "errors",
)
LEVEL = {name: number for number, name in enumerate(LEVELS)}
RELEASE_BEFORE = "serving"  # names that models registered by the release before import


def part_of(module: str) -> str:
    """The room that a module stands in; `salon` itself is nobody's."""
    parts = module.split(".")[1:]
    return next((room for n in range(len(parts), 0, -1) if (room := ".".join(parts[:n])) in LEVEL), "")


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path) -> set[str]:
    """Modules of salon that a file imports, at its top or inside a function."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import in line {node.lineno}"
            module = node.module or ""
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return {module for module in found if module.startswith("salon.")}


SOURCES = {
    name: imports_of(path)
    for path in sorted(PACKAGE.rglob("*.py"))
    if (name := module_name(path)) != "salon" and not name.startswith(f"salon.{RELEASE_BEFORE}")
}


def test_every_module_stands_in_a_room() -> None:
    assert [module for module in SOURCES if not part_of(module)] == []


@pytest.mark.parametrize("module", SOURCES)
def test_imports_run_one_way(module: str) -> None:
    own = LEVEL[part_of(module)]
    upward = {target for target in SOURCES[module] if part_of(target) and LEVEL[part_of(target)] < own}
    assert not upward, f"{module} imports from above: {upward}"


def test_the_jury_and_the_methods_do_not_know_each_other() -> None:
    for module, targets in SOURCES.items():
        parts = {part_of(target) for target in targets}
        if part_of(module) == "judging":
            assert "methods" not in parts, module
        if part_of(module) == "methods":
            assert "judging" not in parts, module


def test_no_function_is_longer_than_a_screen_and_a_half() -> None:
    lengths = {
        f"{path.relative_to(PACKAGE)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {name: count for name, count in lengths.items() if count > 80} == {}


def test_stages_are_exactly_those_of_the_pipeline() -> None:
    stages = {path.stem for path in (PACKAGE / "stages").glob("*.py")} - {"__init__"}
    assert stages == set(yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"])


def test_tests_lie_as_the_source_lies() -> None:
    rooms = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*") if path.is_dir()}
    others = {Path(name) for name in ("architecture", "docs", "pipeline", "support")}
    tests = REPOSITORY / "tests"
    folders = {path.parent.relative_to(tests) for path in tests.rglob("*.py")} - {Path()}
    assert folders <= rooms | others


def test_a_reader_finds_no_drawer_of_odds_and_ends() -> None:
    names = {path.stem for path in PACKAGE.rglob("*.py")}
    assert not names & {"utils", "util", "helpers", "common", "misc"}


def test_no_file_has_outgrown_its_idea() -> None:
    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in PACKAGE.rglob("*.py")}
    assert {name: count for name, count in lines.items() if count > 350} == {}


def test_help_is_quick_and_loads_no_framework() -> None:
    program = (
        "import sys; from typer.testing import CliRunner; from salon.cli import app; "
        "shown = CliRunner().invoke(app, ['--help']); assert shown.exit_code == 0, shown.output; "
        "print(sorted({'torch', 'mlflow', 'lightning', 'great_expectations', 'pandas'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"

    spent = []
    for _ in range(3):  # processor time, and the best of three: a busy machine is no fault of ours
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "salon", "--help"], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 1.0


def test_every_command_of_the_pipeline_has_a_stage() -> None:
    pipeline = (REPOSITORY / "dvc.yaml").read_text(encoding="utf-8")
    commands = set(re.findall(r"cmd: python -m salon ([a-z-]+)", pipeline))
    listing = subprocess.run(
        [sys.executable, "-m", "salon", "--help"], check=True, capture_output=True, text=True
    ).stdout
    assert commands
    assert {command for command in commands if not re.search(rf"\b{command}\b", listing)} == set()


def make(*arguments: str) -> "subprocess.CompletedProcess[str]":
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    command = ["make", "--no-print-directory", *arguments]
    # `make test` hands its own flags and variables down
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))
    }
    return subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )


def makefile_targets() -> set[str]:
    text = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    (phony,) = re.findall(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    return set(phony.split())


def test_make_help_is_the_default_and_lists_every_target() -> None:
    shown = make("help").stdout
    assert make().stdout == shown
    listed = set(re.findall(r"^  make ([a-z-]+) +\S", shown, re.MULTILINE))
    assert listed == makefile_targets()
    assert {"repro", "test", "smoke", "ui", "serve", "check-data", "lint"} <= listed


def test_continuous_integration_runs_what_a_person_runs() -> None:
    script = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    assert script.rstrip().splitlines()[-1] == "make test"
    for workflow in ("ci", "data"):
        text = (REPOSITORY / ".github" / "workflows" / f"{workflow}.yml").read_text(encoding="utf-8")
        assert re.search(r"run: (\.ci/run|make [a-z-]+)$", text, re.MULTILINE)


@pytest.mark.parametrize("user", [0, 1000])
def test_continuous_integration_gets_a_browser_where_it_can(tmp_path: Path, user: int) -> None:
    programs = {
        "id": f"echo {user}",
        "apt-get": 'echo "$@" >> installed; test "$1" != install || { echo > chromium; chmod +x chromium; }',
        "make": 'echo "make $@, browser required: $SALON_REQUIRE_BROWSER"',
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f'#!/bin/sh\ncd "{tmp_path}"\n{body}\n')
        (tmp_path / name).chmod(0o755)
    for name in ("bash", "dirname", "sh", "chmod"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    for _ in range(2):  # the second time there is nothing to install
        done = subprocess.run(
            ["bash", str(REPOSITORY / ".ci" / "run")],
            env={"PATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.endswith("make test, browser required: 1\n")
        assert ("No browser" in done.stderr) == (user != 0)
    installed = (tmp_path / "installed").read_text() if user == 0 else ""
    assert installed.count("chromium") == (user == 0)


def test_a_half_built_environment_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").touch()  # a venv whose packages were never finished
    plan = make("--dry-run", "env", f"VENV={tmp_path}", f"PYTHON={sys.executable}").stdout
    assert f'-m venv --clear "{tmp_path}"' in plan
    assert "install -r requirements.lock" in plan


def test_a_whole_environment_is_left_alone_until_the_lock_changes(tmp_path: Path) -> None:
    for stamp in (".packages", ".complete"):
        (tmp_path / stamp).touch()
    assert "venv" not in make("--dry-run", "env", f"VENV={tmp_path}").stdout
    changed_project = make("--dry-run", "--what-if=pyproject.toml", "env", f"VENV={tmp_path}").stdout
    assert "--editable ." in changed_project
    assert "requirements.lock" not in changed_project
    assert "requirements.lock" in make("-n", "-W", "requirements.lock", "env", f"VENV={tmp_path}").stdout


def test_a_folder_that_is_no_environment_is_not_cleared(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    done = make("env", f"VENV={tmp_path}", f"PYTHON={sys.executable}")
    assert done.returncode
    assert "is no environment" in done.stdout
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_an_old_python_is_refused_with_what_to_do(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text('#!/bin/sh\ntest "$1" = --version && echo Python 3.8.18 && exit 0\nexit 1\n')
    old.chmod(0o755)
    done = make("env", f"VENV={tmp_path / 'venv'}", f"PYTHON={old}")
    assert done.returncode
    assert "needs Python 3.11 or newer" in done.stdout
    assert "Python 3.8.18" in done.stdout
    assert not (tmp_path / "venv").exists()


def test_the_lock_pins_everything_for_every_machine() -> None:
    lines = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8").split()
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*", line) for line in lines)
    names = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    assert {"torch", "lightning", "mlflow", "dvc", "great-expectations", "pytest"} <= names
    assert "torchvision" not in names  # its mere presence breaks the CPU environment
