"""Parquet shards: written whole or not at all, read back as rows or as Arrow tables."""

import shutil
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from salon.data.schema import QUARANTINE_SCHEMA, SCHEMA, Row
from salon.errors import SalonError
from salon.paths import SPLITS


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
        if self.folder.exists():
            shutil.rmtree(self.folder)
        self._temporary.rename(self.folder)

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
        table = pa.Table.from_pylist([row.to_record() for row in self._pending[split]], schema=SCHEMA)
        path = self._temporary / f"{split}-{self._shards[split]:05d}.parquet"
        pq.write_table(table.replace_schema_metadata(HF_METADATA), path, compression="zstd")
        self._shards[split] += 1
        self._pending[split] = []


# tells Hugging Face `datasets` that the struct column holds pictures
HF_METADATA = {
    "huggingface": (
        '{"info": {"features": {'
        + ", ".join(
            f'"{name}": '
            + {
                "image": '{"_type": "Image"}',
                "width": '{"dtype": "int32", "_type": "Value"}',
                "height": '{"dtype": "int32", "_type": "Value"}',
            }.get(name, '{"dtype": "string", "_type": "Value"}')
            for name in SCHEMA.names
            if name != "attributes"
        )
        + "}}}"
    )
}


def shard_paths(folder: Path, split: str) -> list[Path]:
    """The shards of one split in order.

    Raises:
        SalonError: there are none.
    """
    paths = sorted(folder.glob(f"{split}-[0-9]*.parquet"))
    if not paths:
        raise SalonError(f"{folder} holds no shard of split {split!r}: run the ingest stage first")
    return paths


def read_tables(
    folder: Path, splits: Iterable[str] = SPLITS, *, columns: list[str] | None = None
) -> pa.Table:
    """All rows of `splits` as one Arrow table; pass `columns` to leave the pictures on disk."""
    return pa.concat_tables(
        [pq.read_table(path, columns=columns) for split in splits for path in shard_paths(folder, split)]
    )
