"""Folders of one's own pictures, as people have them, and what ingestion makes of them."""

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from PIL import Image

from salon.data.shards import read_tables
from salon.errors import GateError
from salon.files import read_json
from salon.params import Params, load_params
from salon.paths import Paths
from salon.stages import ingest
from tiny import REPOSITORY

Row = dict[str, Any]


def paint(number: int, *, size: tuple[int, int] = (40, 40), mode: str = "RGB") -> Image.Image:
    """A picture of a few random rectangles: another number, another picture to eye and hash."""
    rng = np.random.default_rng(number)
    pixels = np.zeros((size[1], size[0], 3), dtype=np.uint8)
    for _ in range(6):
        left, top = rng.integers(size[0]), rng.integers(size[1])
        width, height = rng.integers(size[0] // 4, size[0]), rng.integers(size[1] // 4, size[1])
        pixels[top : top + height, left : left + width] = rng.integers(256, size=3)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def write_pictures(folder: Path, count: int, *, first: int = 0) -> list[str]:
    """`picture-<number>.png` in `folder`; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"picture-{number}.png" for number in range(first, first + count)]
    for number, name in enumerate(names, start=first):
        (folder / name).write_bytes(encoded(paint(number)))
    return names


def write_lines(path: Path, records: list[Row]) -> None:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records), encoding="utf-8")


def own_params(
    root: Path, source: str, path: Path, *, section: Row | None = None, **ingest_settings: Any
) -> Params:
    """The repository's params.yaml with another source."""
    raw = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    raw["ingest"] = {
        "source": source,
        "path": str(path),
        "max_quarantine_fraction": 1.0,
        source: section or {},
        **ingest_settings,
    }
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    return load_params(root / "params.yaml")


class Ingested:
    """A workspace after ingestion."""

    def __init__(self, root: Path) -> None:
        self.paths = Paths(root)
        self.report = read_json(self.paths.ingest_report)
        self.rows: list[Row] = read_tables(self.paths.interim).to_pylist()
        self.quarantine: list[Row] = pq.read_table(self.paths.quarantine).to_pylist()
        assert self.report["found"] == self.report["ingested"] + self.report["quarantined"]
        assert self.report["ingested"] == len(self.rows)
        assert self.report["quarantined"] == len(self.quarantine)
        assert self.report["reasons"] == Counter(line["reason"] for line in self.quarantine)

    @property
    def captions(self) -> set[str]:
        return {row["caption"] for row in self.rows}

    def row(self, caption: str) -> Row:
        (found,) = [row for row in self.rows if row["caption"] == caption]
        return found

    def pixels(self, caption: str) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(self.row(caption)["image"]["bytes"])))

    def reason(self, part: str) -> str:
        """Why the one row whose place holds `part` was refused."""
        found = [line for line in self.quarantine if part in line["row"]]
        assert len(found) == 1, (part, found)
        return str(found[0]["reason"])


def ingest_own(
    root: Path, source: str, path: Path, *, section: Row | None = None, **ingest_settings: Any
) -> Ingested:
    """Run the stage. Having no row for training is left to the test that asks for it."""
    params = own_params(root, source, path, section=section, **ingest_settings)
    try:
        ingest.run(params, Paths(root))
    except GateError as error:
        if "is left for training" not in str(error):
            raise
    return Ingested(root)
