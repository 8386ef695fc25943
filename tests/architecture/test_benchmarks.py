"""The benchmarks that need nothing but the project's own environment run, and each is explained."""

import os
import re
import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_training_prints_a_line_for_every_method() -> None:
    arguments = ["--threads", "1", "--seconds", "0", "--repeats", "1", "--methods", "gan", "vqvae"]
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "training.py"), *arguments],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
    )
    assert re.findall(r"^(\w+) +\d+ +\d+\.\d\d +\d+ ", done.stdout, re.MULTILINE) == ["gan", "vqvae"]


def test_ingestion_prints_both_speeds_and_the_ratio(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "ingest.py"), "--pictures", "40"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert re.findall(r"^(\w+) +\d+ pictures/s +\d\.\d\d GB", done.stdout, re.MULTILINE) == [
        "datasets",
        "salon",
    ]
    assert re.search(r"^salon is \d+\.\d\d times as fast", done.stdout, re.MULTILINE)


def test_every_script_is_explained() -> None:
    explained = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    scripts = [
        path.name for path in BENCHMARKS.glob("*.py") if "\ndef main(" in path.read_text(encoding="utf-8")
    ]
    assert "training.py" in scripts
    assert [name for name in scripts if f"benchmarks/{name}" not in explained] == []
