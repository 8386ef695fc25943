"""`dvc metrics` and `dvc plots` on the declarations of dvc.yaml: what a user sees between two commits."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from salon.commands.smoke import clone_environment

REPOSITORY = Path(__file__).parents[2]
METHODS = {"gan": {"codec": "pixels"}, "dalle": {"codec": "vqgan"}}
# stands in for the stages select and evaluate: the same files, from a figure of params.yaml
WRITER = """
import json, sys, yaml
from pathlib import Path
name = sys.argv[1]
share = yaml.safe_load(open("params.yaml"))["evaluate"]["share"]
figures = {"test": {"alignment": {"all": {"value": share, "low": share - 0.1, "high": 1.0, "n": 500}}}}
rows = [
    {"trial": s, "guidance_scale": s, "draw_ms_p50": 4.5 * s, "likeness": share, "diversity": share}
    for s in (1, 2)
]
tables = (("metrics", figures),)
if sys.argv[2] == "select":
    tables = (("selection", {}), ("tradeoff", rows), ("guidance", rows))
for folder, value in tables:
    path = Path("reports") / folder / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
made = Path("models/selected" if sys.argv[2] == "select" else "reports/samples") / name
made.mkdir(parents=True, exist_ok=True)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stages select and evaluate of dvc.yaml alone, run twice with a commit after each."""
    root = tmp_path_factory.mktemp("views")
    pipeline = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    stages = {name: pipeline[name] for name in ("select", "evaluate")}
    for name, stage in stages.items():
        command = f"{sys.executable} write.py ${{key}} {name}"
        stage["do"] |= {"cmd": command, "deps": ["write.py"], "params": ["evaluate"]}
    write(root / "dvc.yaml", {"stages": stages})
    (root / "write.py").write_text(WRITER, encoding="utf-8")
    ignored = (REPOSITORY / ".gitignore").read_text(encoding="utf-8")
    (root / ".gitignore").write_text(ignored, encoding="utf-8")
    run(root, "git", "init", "--quiet")
    run(root, sys.executable, "-m", "dvc", "init", "--quiet")
    for share in (0.75, 0.875):
        write(root / "params.yaml", {"methods": METHODS, "evaluate": {"share": share}})
        run(root, sys.executable, "-m", "dvc", "repro", "--quiet")
        run(root, "git", "add", "--all")
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        run(root, "git", *identity, "commit", "--quiet", "--message", f"share {share}")
    return root


def write(path: Path, value: Any) -> None:
    path.write_text(yaml.safe_dump(value), encoding="utf-8")


def run(root: Path, *command: str) -> str:
    done = subprocess.run(
        command, cwd=root, env=clone_environment(root), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def dvc(root: Path, *arguments: str) -> Any:
    return json.loads(run(root, sys.executable, "-m", "dvc", *arguments, "--json"))


def test_metrics_show_every_method(repository: Path) -> None:
    shown = dvc(repository, "metrics", "show")[""]["data"]
    found = {file: value["data"]["test"]["alignment"]["all"]["value"] for file, value in shown.items()}
    assert found == {f"reports/metrics/{name}.json": 0.875 for name in METHODS}


def test_metrics_diff_finds_both_sides_in_git(repository: Path) -> None:
    changed = dvc(repository, "metrics", "diff", "HEAD~1")
    for name in METHODS:
        difference = changed[f"reports/metrics/{name}.json"]["test.alignment.all.value"]
        assert (difference["old"], difference["new"]) == (0.75, 0.875)


def test_plots_show_the_tradeoffs_of_both_commits(repository: Path) -> None:
    run(repository, sys.executable, "-m", "dvc", "plots", "diff", "HEAD~1", "HEAD", "--out", str(repository))
    text = (repository / "index.html").read_text(encoding="utf-8")
    for name in METHODS:
        assert f"{name}: likeness lost against ms a picture" in text
        assert f"{name}: likeness lost against guidance scale" in text
    assert "HEAD~1" in text
    assert "0.875" in text
