"""The notebooks run on what the pipeline left, show what it found, and are kept without noise."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pages import REPOSITORY
from pipeline_clone import Clone
from salon.commands import smoke
from salon.files import read_json

NAMES = ("01_captions", "02_methods")
MOST_BYTES = 700_000  # git keeps every version


def read_notebook(root: Path, name: str) -> Any:
    return json.loads((root / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook["cells"] for output in cell.get("outputs", [])]


def printed(notebook: Any) -> str:
    """All that a reader can read."""
    texts = [output.get("text", []) for output in outputs(notebook)]
    texts += [output.get("data", {}).get("text/plain", []) for output in outputs(notebook)]
    return "\n".join("".join(text) for text in texts)


def pictures(notebook: Any) -> int:
    return sum("image/png" in output.get("data", {}) for output in outputs(notebook))


@pytest.fixture(scope="module")
def executed(clone: Clone) -> dict[str, Any]:
    """The notebooks after `python notebooks/execute.py` in the clone."""
    done = subprocess.run(
        [sys.executable, "notebooks/execute.py"],
        cwd=clone.root,
        env=smoke.clone_environment(clone.root) | {"MPLCONFIGDIR": str(clone.root / ".salon" / "matplotlib")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: read_notebook(clone.root, name) for name in NAMES}


@pytest.mark.pipeline
def test_both_run_from_top_to_bottom(executed: dict[str, Any]) -> None:
    for name, notebook in executed.items():
        assert_is_whole(notebook)
        sources = [
            [cell["source"] for cell in n["cells"]] for n in (notebook, read_notebook(REPOSITORY, name))
        ]
        assert sources[0] == sources[1]


@pytest.mark.pipeline
def test_the_captions_are_those_of_the_workspace(clone: Clone, executed: dict[str, Any]) -> None:
    shown = printed(executed["01_captions"])
    counts = read_json(clone.paths.ingest_report)
    assert f"found {counts['found']:,} = ingested {counts['ingested']:,}" in shown
    assert "pictures in more than one split: 0" in shown
    assert "verdict: passed" in shown
    assert "brontosaurus" in shown
    assert "nothing is held out" not in shown
    assert pictures(executed["01_captions"]) >= 6


@pytest.mark.pipeline
def test_the_figures_are_those_of_the_jury(clone: Clone, executed: dict[str, Any]) -> None:
    notebook = executed["02_methods"]
    tables = "".join("".join(output.get("data", {}).get("text/html", [])) for output in outputs(notebook))
    for name in clone.params.methods:
        assert f"<th>{name}</th>" in tables
        right = read_json(clone.paths.metrics(name))["test"]["alignment"]["all"]
        value, low, high = (100 * right[key] for key in ("value", "low", "high"))
        assert f"{value:.1f} ({low:.1f}–{high:.1f})" in tables
    assert f"{len(read_json(clone.paths.sentinels)['rules'])} rules" in printed(notebook)
    assert "gan: " in printed(notebook)  # which has no such argument, and says so
    assert pictures(notebook) >= 7


@pytest.mark.parametrize("name", NAMES)
def test_what_is_kept_in_git_is_whole_and_small(name: str) -> None:
    path = REPOSITORY / "notebooks" / f"{name}.ipynb"
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size < MOST_BYTES
    assert_is_whole(json.loads(text))
    assert not re.search(rf"{re.escape(os.sep)}(home|root|tmp|Users)\b", text)


def assert_is_whole(notebook: Any) -> None:
    """Run once, in order, with neither error nor warning."""
    numbers = [cell["execution_count"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert numbers == list(range(1, len(numbers) + 1))
    for output in outputs(notebook):
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr", output["text"]
