"""A source is one module and one row of the table, settings included: own pictures and worlds alike."""

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

import salon
from own_pictures import write_pictures
from salon.data.shards import read_tables
from salon.paths import Paths
from tiny import REPOSITORY

NOTES = '''"""Pictures whose names are their captions."""

from functools import partial
from pathlib import Path

from salon.data.ingest.sources.base import Caption, Found, Source, fingerprint_folder, require_folder
from salon.params.sources import CaptionedParams


def open_source(settings: CaptionedParams, *, path: Path) -> Source:
    root = require_folder(path, source="notes")
    return Source("notes", fingerprint_folder(root), partial(find, root))


def find(root: Path):
    for file in sorted(root.iterdir()):
        yield Found(file.name, file, (Caption(file.stem),), "png")
'''
PLAIN = '''"""Squares of one colour."""

import numpy as np

from salon.data.ingest.worlds.base import NOTHING_KNOWN
from salon.data.ingest.worlds.compose import rendered_row


def known_sources(params, *, archive):
    return NOTHING_KNOWN


def count_rows(params):
    return 4 * len(params.colours)


def read_rows(params, *, archive, seed):
    for number, split in enumerate(("train", "val", "test", "novel")):
        for colour in params.colours:
            pixels = np.full((16, 16, 3), 60 * number + len(colour), dtype=np.uint8)
            yield rendered_row(
                pixels, split=split, source="plain", licence="CC0", attribution="", caption=colour, lang="en"
            )
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package, to be changed as its owner would."""
    copy = tmp_path / "src" / "salon"
    shutil.copytree(Path(salon.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def add_source(package: Path, place: str, module: str, *, row: str, settings: str = "") -> None:
    (package / "data" / "ingest" / place).write_text(module, encoding="utf-8")
    path = package / "params" / "sources.py"
    before, head, table = path.read_text(encoding="utf-8").partition(
        "SOURCES: dict[str, type[Section]] = {\n"
    )
    assert head
    path.write_text(f"{before}{settings}{head}    {row}\n{table}", encoding="utf-8")


def touched(package: Path) -> set[str]:
    before = Path(salon.__file__).parent
    files = {path.relative_to(package) for path in package.rglob("*.py")}
    return {
        str(path)
        for path in files
        if not (before / path).is_file() or (before / path).read_bytes() != (package / path).read_bytes()
    }


def ingest(package: Path, root: Path, source: str, **section: object) -> Counter[str]:
    """Run the command of the copy; the captions it ingested."""
    raw = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    raw["ingest"] = {"source": source, "path": "pictures", **section}
    root.mkdir(exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "salon", "ingest"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(package.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Counter(read_tables(Paths(root).interim)["caption"].to_pylist())


def test_a_source_of_own_pictures_is_one_module_and_one_row(package: Path, tmp_path: Path) -> None:
    add_source(package, "sources/notes.py", NOTES, row='"notes": CaptionedParams,')
    names = write_pictures(tmp_path / "work" / "pictures", 12)
    found = ingest(package, tmp_path / "work", "notes", notes={"splits": {"val": 0.2, "test": 0.2}})
    assert found == Counter(Path(name).stem for name in names)
    assert touched(package) == {"data/ingest/sources/notes.py", "params/sources.py"}


def test_a_world_is_one_module_and_one_row(package: Path, tmp_path: Path) -> None:
    settings = "class PlainParams(Section):\n    colours: list[str]\n\n\n"
    add_source(package, "worlds/plain.py", PLAIN, row='"plain": PlainParams,', settings=settings)
    (tmp_path / "work").mkdir()
    found = ingest(package, tmp_path / "work", "plain", plain={"colours": ["red", "yellow"]})
    assert found == Counter({"red": 4, "yellow": 4})
    assert touched(package) == {"data/ingest/worlds/plain.py", "params/sources.py"}
