"""Parquet shards: written whole or not at all, read back as rows or as Arrow tables."""

import json
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from salon.data.schema import MAPS, QUARANTINE_SCHEMA, SCHEMA, STORED_SCHEMA, Row
from salon.errors import SalonError
from salon.files import whole_folder
from salon.paths import SPLITS

# tells Hugging Face `datasets` that the struct column holds pictures; it infers the other columns itself
HF_METADATA = {"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}}}})}

SHARD_BYTES = 256 * 2**20  # of large pictures fewer rows make a shard: it must fit into memory


class ShardWriter:
    """Streams rows into `<split>-<number>.parquet` in a temporary folder that replaces `folder` at the end.

    Use as a context manager; an exception leaves `folder` as it was. A split without rows has an empty shard.
    """

    def __init__(self, folder: Path, *, rows_per_shard: int) -> None:
        self.folder = folder
        self.rows_per_shard = rows_per_shard
        self.counts: dict[str, int] = dict.fromkeys(SPLITS, 0)
        self.reasons: Counter[str] = Counter()
        """Reason -> rows in quarantine."""
        self._whole = whole_folder(folder)
        self._rows: dict[str, list[Row]] = {split: [] for split in SPLITS}
        self._tables: dict[str, list[pa.Table]] = {split: [] for split in SPLITS}
        self._shards: dict[str, int] = dict.fromkeys(SPLITS, 0)
        self._quarantine: pq.ParquetWriter | None = None

    def __enter__(self) -> "ShardWriter":
        self._temporary = self._whole.__enter__()
        self._quarantine = pq.ParquetWriter(self._temporary / "quarantine.parquet", QUARANTINE_SCHEMA)
        return self

    def __exit__(self, *error: Any) -> None:
        assert self._quarantine is not None
        self._quarantine.close()
        if error[0] is not None:
            self._whole.__exit__(*error)
            return
        with ExitStack() as stack:
            stack.push(self._whole)  # what fails from here on leaves the folder as it was, too
            for split in SPLITS:
                if self._rows[split] or self._tables[split] or not self._shards[split]:
                    self._flush(split)

    @property
    def quarantined(self) -> int:
        return self.reasons.total()

    def write(self, row: Row) -> None:
        pending = self._rows[row.split]
        pending.append(row)
        self.counts[row.split] += 1
        if len(pending) == self.rows_per_shard:
            self._flush(row.split)

    def write_table(self, split: str, table: pa.Table) -> None:
        """Append rows of `STORED_SCHEMA` to `split`; a shard is closed early when it grows large."""
        self.counts[split] += table.num_rows
        while table.num_rows:
            pending = self._tables[split]
            part = table.slice(0, self.rows_per_shard - sum(each.num_rows for each in pending))
            table = table.slice(part.num_rows)
            pending.append(part)
            full = sum(each.num_rows for each in pending) == self.rows_per_shard
            if full or sum(each.nbytes for each in pending) > SHARD_BYTES:
                self._flush(split)

    def quarantine(self, lines: pa.Table) -> None:
        """Keep what cannot be used, as rows of `QUARANTINE_SCHEMA`, instead of losing it."""
        assert self._quarantine is not None
        self.reasons.update(lines["reason"].to_pylist())
        self._quarantine.write_table(lines)

    def _flush(self, split: str) -> None:
        tables = self._tables[split]
        rows = pa.Table.from_pylist([row.to_record() for row in self._rows[split]], schema=STORED_SCHEMA)
        table = pa.concat_tables([rows, *tables])
        path = self._temporary / f"{split}-{self._shards[split]:05d}.parquet"
        pq.write_table(table.replace_schema_metadata(HF_METADATA), path, compression="zstd")
        self._shards[split] += 1
        self._rows[split], self._tables[split] = [], []


def shard_paths(folder: Path, split: str) -> list[Path]:
    """The shards of one split in order.

    Raises:
        SalonError: there are none.
    """
    paths = sorted(folder.glob(f"{split}-[0-9]*.parquet"))
    if not paths:
        raise SalonError(f"{folder} holds no shard of split {split!r}: run the ingest stage first")
    return paths


def read_shard(path: Path, *, columns: list[str] | None = None) -> pa.Table:
    """One shard as rows of `SCHEMA`: stored entries become maps.

    Raises:
        SalonError: the file is cut off, is not Parquet, or lacks a column.
    """
    try:
        with pq.ParquetFile(path) as file:
            missing = sorted(set(columns or []) - set(file.schema_arrow.names))
            if missing:
                raise SalonError(f"{path} has no column {missing[0]!r}: run the ingest stage again")
            table = file.read(columns=columns)
        for name in set(MAPS) & set(table.column_names):
            table = _entries_to_map(table, name)
        return table
    except (pa.ArrowException, OSError) as error:
        raise SalonError(f"{path} cannot be read ({error}): run the ingest stage again") from None


def read_tables(
    folder: Path, splits: Iterable[str] = SPLITS, *, columns: list[str] | None = None
) -> pa.Table:
    """All rows of `splits` as one Arrow table; pass `columns` to leave the pictures on disk.

    Raises:
        SalonError: a split has no shard, or a shard cannot be read.
    """
    return pa.concat_tables(
        [read_shard(path, columns=columns) for split in splits for path in shard_paths(folder, split)]
    )


def _entries_to_map(table: pa.Table, name: str) -> pa.Table:
    wanted, index = SCHEMA.field(name), table.schema.get_field_index(name)
    if not pa.types.is_list(table.schema.field(index).type):
        return table
    chunks = []
    for stored in table[name].chunks:
        keys, values = stored.values.flatten()
        mask = stored.is_null() if stored.null_count else None
        chunks.append(pa.MapArray.from_arrays(stored.offsets, keys, values, mask=mask))
    return table.set_column(index, name, pa.chunked_array(chunks, type=wanted.type))
