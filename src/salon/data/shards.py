"""Parquet shards: written whole or not at all, read back as rows or as Arrow tables."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from salon.data.schema import QUARANTINE_SCHEMA, STORED_SCHEMA, Row
from salon.errors import SalonError
from salon.paths import SPLITS

# tells Hugging Face `datasets` that the struct column holds pictures; it infers the other columns itself
HF_METADATA = {"huggingface": json.dumps({"info": {"features": {"image": {"_type": "Image"}}}})}


class ShardWriter:
    """Streams rows into `<split>-<number>.parquet` in a temporary folder that replaces `folder` at the end.

    Use as a context manager; an exception leaves `folder` as it was.
    """

    def __init__(self, folder: Path, *, rows_per_shard: int) -> None:
        self.folder = folder
        self.rows_per_shard = rows_per_shard
        self.counts: dict[str, int] = dict.fromkeys(SPLITS, 0)
        self._temporary = folder.with_name(f".{folder.name}.part")
        self._pending: dict[str, list[Row]] = {split: [] for split in SPLITS}
        self._shards: dict[str, int] = dict.fromkeys(SPLITS, 0)
        self._quarantined: list[dict[str, str | None]] = []

    def __enter__(self) -> "ShardWriter":
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(parents=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            return
        for split in SPLITS:
            self._flush(split)
        quarantine = pa.Table.from_pylist(self._quarantined, schema=QUARANTINE_SCHEMA)
        pq.write_table(quarantine, self._temporary / "quarantine.parquet")
        # two renames: a kill cannot leave a folder that is half deleted
        replaced = self.folder.with_name(f".{self.folder.name}.old")
        shutil.rmtree(replaced, ignore_errors=True)
        if self.folder.exists():
            self.folder.rename(replaced)
        self._temporary.rename(self.folder)
        shutil.rmtree(replaced, ignore_errors=True)

    @property
    def quarantined(self) -> int:
        return len(self._quarantined)

    def write(self, row: Row) -> None:
        pending = self._pending[row.split]
        pending.append(row)
        self.counts[row.split] += 1
        if len(pending) == self.rows_per_shard:
            self._flush(row.split)

    def quarantine(self, row: str, *, caption: str | None, reason: str, source: str) -> None:
        """Keep what cannot be used, with the reason, instead of losing it."""
        self._quarantined.append({"row": row, "caption": caption, "reason": reason, "source": source})

    def _flush(self, split: str) -> None:
        if not self._pending[split]:
            return
        table = pa.Table.from_pylist([row.to_record() for row in self._pending[split]], schema=STORED_SCHEMA)
        path = self._temporary / f"{split}-{self._shards[split]:05d}.parquet"
        pq.write_table(table.replace_schema_metadata(HF_METADATA), path, compression="zstd")
        self._shards[split] += 1
        self._pending[split] = []


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
    """One shard as rows of `SCHEMA`: the stored attribute entries become a map.

    Raises:
        SalonError: the file is cut off, is not Parquet, or lacks a column.
    """
    try:
        with pq.ParquetFile(path) as file:
            missing = sorted(set(columns or []) - set(file.schema_arrow.names))
            if missing:
                raise SalonError(f"{path} has no column {missing[0]!r}: run the ingest stage again")
            table = file.read(columns=columns)
        return _entries_to_map(table)
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


def _entries_to_map(table: pa.Table) -> pa.Table:
    index = table.schema.get_field_index("attributes")
    if index < 0 or not pa.types.is_list(table.schema.field(index).type):
        return table
    chunks = []
    for entries in table["attributes"].chunks:
        keys, values = entries.values.flatten()
        mask = entries.is_null() if entries.null_count else None
        chunks.append(pa.MapArray.from_arrays(entries.offsets, keys, values, mask=mask))
    maps = pa.chunked_array(chunks, type=pa.map_(pa.string(), pa.string()))
    return table.set_column(index, "attributes", maps)
