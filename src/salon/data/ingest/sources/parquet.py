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
from salon.data.ingest.sources.columns import CAPTION_COLUMNS, describe, require_columns
from salon.errors import SalonError
from salon.params.sources import CaptionedParams

NAME = "parquet"
ROWS_AT_ONCE = 64  # whose pictures are in memory together


def open_source(settings: CaptionedParams, *, path: Path) -> Source:
    """Find the files and look at their columns.

    Raises:
        SalonError: there is no such file, or one lacks a column that the settings name.
    """
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*.parquet") if f.name[0] != ".")
    if not files:
        raise SalonError(f"{path} is no Parquet file and holds none: ingest.path must name one, or a folder")
    root = (path.parent if path.is_file() else path).resolve()
    files = [root / file.relative_to(path.parent if path.is_file() else path) for file in files]
    total = 0
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                total += opened.metadata.num_rows
                columns = opened.schema_arrow.names
        except (pa.ArrowException, OSError):
            continue  # said when its turn comes
        require_columns(columns, settings, where=str(file))
        if settings.columns.image not in columns:
            raise SalonError(
                f"{file} has no column {settings.columns.image!r} with pictures; it has "
                f"{', '.join(columns)}: name it in `columns: {{image: …}}` of ingest.parquet"
            )
    return Source(NAME, fingerprint_files(files, below=root), partial(_find, root, files, settings), total)


def _find(root: Path, files: list[Path], settings: CaptionedParams) -> Iterator[Found]:
    for file in files:
        where = readable(file, below=root)
        if not file.resolve().is_relative_to(root):
            yield Found(where, Rejection(Reason.OUTSIDE_SOURCE, "a link that leads out of the source"))
            continue
        number = 0
        try:
            with pq.ParquetFile(file) as opened:
                columns = _wanted(opened.schema_arrow.names, settings)
                for batch in opened.iter_batches(ROWS_AT_ONCE, columns=columns):
                    for record in _records(batch):
                        yield _describe(record, f"{where}: row {number}", file, root, settings)
                        number += 1
        except (pa.ArrowException, OSError) as error:
            yield Found(where, Rejection(Reason.DAMAGED_FILE, f"after {number} rows: {error}"))


def _wanted(present: list[str], settings: CaptionedParams) -> list[str]:
    """The columns that are read; others stay on disk."""
    named = settings.columns
    captions = named.caption if named.caption is not None else CAPTION_COLUMNS
    names = (
        {captions}
        if isinstance(captions, str)
        else set(captions.values() if isinstance(captions, dict) else captions)
    )
    names |= {named.image, named.lang or "", named.split or "", named.licence or "", named.attribution or ""}
    names |= set(settings.attributes.values())
    return [name for name in present if name in names]


def _records(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """Rows as Python values; text stays bytes where it is not UTF-8, so that one such row spoils no other."""
    columns = {name: _values(batch.column(name)) for name in batch.schema.names}
    for row in range(batch.num_rows):
        yield {name: values[row] for name, values in columns.items()}


def _values(column: pa.Array) -> list[Any]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_value(cell) for cell in column]


def _value(cell: pa.Scalar) -> Any:
    try:
        return cell.as_py()
    except (
        UnicodeDecodeError
    ):  # a text is told from nothing by its bytes; what holds texts is not taken apart
        return cell.as_buffer().to_pybytes() if hasattr(cell, "as_buffer") else None


def _describe(record: dict[str, Any], where: str, file: Path, root: Path, settings: CaptionedParams) -> Found:
    said = describe(record, settings)
    image, name = picture_of(record.get(settings.columns.image), base=file.parent, root=root)
    return Found(
        where,
        said.problem or image,
        said.captions,
        extension_of(name),
        said.split or split_of(readable(file, below=root)),
        said.attributes,
        said.licence,
        said.attribution,
    )


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
