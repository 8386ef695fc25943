"""Parquet files whose rows hold pictures, as `datasets` and others write them.

    ingest:
      source: parquet
      path: data/raw/art.parquet      # or a folder of such files

The picture is a struct{bytes, path}, plain bytes, or a path to a file below `ingest.path`. A file or folder
called `train…`, `val…` or `test…` is that split.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from salon.data.ingest.quarantine import Reason, Rejection
from salon.data.ingest.sources.base import (
    Found,
    Source,
    extension_of,
    fingerprint_files,
    locate,
    readable,
    split_of,
)
from salon.data.ingest.sources.columns import CAPTION_COLUMNS, describe, named_columns, require_columns
from salon.errors import SalonError
from salon.params.sources import CaptionedParams

NAME = "parquet"
ROWS_AT_ONCE = 64  # whose pictures are in memory together


def open_source(settings: CaptionedParams, *, path: Path) -> Source:
    """Find the files and look at their columns.

    Raises:
        SalonError: there is no such file, or one lacks a column that the settings name.
    """
    root = (path.parent if path.is_file() else path).resolve()
    found = [root / path.name] if path.is_file() else root.rglob("*.parquet")
    files = sorted(file for file in found if path.is_file() or not file.name.startswith("."))
    if not files:
        raise SalonError(f"{path} is no Parquet file and holds none: ingest.path must name one, or a folder")
    total = 0
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                total += opened.metadata.num_rows
                columns = opened.schema_arrow.names
        except (pa.ArrowException, OSError):
            continue  # said when its turn comes
        require_columns(columns, settings, where=str(file), pictures_of=NAME)
    return Source(NAME, fingerprint_files(files, below=root), partial(_find, root, files, settings), total)


def _find(root: Path, files: list[Path], settings: CaptionedParams) -> Iterator[Found]:
    wanted = {settings.columns.image, *CAPTION_COLUMNS, *named_columns(settings)}
    for file in files:
        where = readable(file, below=root)
        if not file.resolve().is_relative_to(root):
            yield Found(where, Rejection(Reason.OUTSIDE_SOURCE, "a link that leads out of the source"))
            continue
        number = 0
        try:
            with pq.ParquetFile(file) as opened:
                # the others stay on disk
                columns = [name for name in opened.schema_arrow.names if name in wanted]
                for batch in opened.iter_batches(ROWS_AT_ONCE, columns=columns):
                    for record in _records(batch):
                        cell = record.get(settings.columns.image)
                        image, name = picture_of(cell, base=file.parent, root=root)
                        yield describe(record, settings).of(
                            image, f"{where}: row {number}", extension_of(name), split=split_of(where)
                        )
                        number += 1
        except (pa.ArrowException, OSError) as error:
            yield Found(where, Rejection(Reason.DAMAGED_FILE, f"after {number} rows: {error}"))


def _records(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Rows as Python values; text stays bytes where it is not UTF-8, so that one such row spoils no other."""
    for values in zip(*map(_values, batch.columns), strict=True):
        yield dict(zip(batch.schema.names, values, strict=True))


def _values(column: pa.Array) -> list[Any]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_value(cell) for cell in column]


def _value(cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except UnicodeDecodeError:
        # a text is told from nothing by its bytes; what holds texts is not taken apart
        return cell.as_buffer().to_pybytes() if hasattr(cell, "as_buffer") else None


def picture_of(cell: object, *, base: Path, root: Path) -> tuple[Path | bytes | Rejection, str]:
    """The picture of a cell as `datasets` stores it, and its name where it has one."""
    name = cell.get("path") if isinstance(cell, dict) else cell if isinstance(cell, str) else None
    data = cell.get("bytes") if isinstance(cell, dict) else cell if isinstance(cell, bytes) else None
    if isinstance(data, bytes):
        return data, str(name or "")
    if name is not None:
        return locate(name, base=base, root=root), str(name)
    if cell is None or isinstance(cell, dict):
        return Rejection(Reason.NO_PICTURE, "the cell is empty"), ""
    return Rejection(Reason.NOT_A_PICTURE, f"the cell holds {type(cell).__name__}"), ""
