"""Prepared chunks in, shards out: duplicates are refused, splits assigned, and the rows of a split mixed.

The rows of a source stand in its own order, all of one folder together; whoever takes the first hundred of a
split should get a fair sample. They are mixed within windows of chunks, so that memory stays bounded.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from salon.data.ingest.assign import UNSAID, Assignment, RowKeys, assign_splits
from salon.data.ingest.prepare import Chunk
from salon.data.schema import QUARANTINE_SCHEMA, STORED_SCHEMA
from salon.data.shards import ShardWriter
from salon.errors import SalonError
from salon.params.sources import CaptionedParams
from salon.paths import SPLITS

WINDOW_CHUNKS = 128
ROWS_AT_ONCE = 512  # copied out of the chunks at a time


def write_shards(
    folder: Path, chunks: int, writer: ShardWriter, *, settings: CaptionedParams, seed: int
) -> None:
    """Write all rows of the first `chunks` files of `folder`, each to a split or to quarantine."""
    prepared = _Prepared(folder, chunks)
    outcome = assign_splits(prepared.facts(), settings)
    for start in range(0, chunks, WINDOW_CHUNKS):
        writer.quarantine(prepared.refused_at_first(start))
        usable = prepared.usable(start)
        if refused := [row for row in usable.tolist() if row in outcome.refused]:
            writer.quarantine(prepared.refused(refused, outcome))
        stay = usable[[row not in outcome.refused for row in usable.tolist()]]
        rng = np.random.default_rng([seed, start])
        for number, split in enumerate(SPLITS):
            rows = rng.permutation(stay[outcome.split[stay] == number])
            for first in range(0, len(rows), ROWS_AT_ONCE):
                writer.write_table(split, prepared.take(rows[first : first + ROWS_AT_ONCE], split))


class _Prepared:
    """The chunks as one table that is never in memory as a whole. A row is numbered among the usable ones."""

    def __init__(self, folder: Path, chunks: int) -> None:
        self._paths = [Chunk(number, ()).path(folder) for number in range(chunks)]
        self._open = lru_cache(maxsize=WINDOW_CHUNKS + 1)(_open_chunk)
        # usable row -> its chunk, and its place there
        places = [np.flatnonzero(self._open(path)["reason"].is_null()) for path in self._paths]
        self._chunk = np.repeat(np.arange(chunks), [len(found) for found in places])
        self._place = np.concatenate([np.zeros(0, dtype=np.int64), *places])

    def facts(self) -> RowKeys:
        code = {name: number for number, name in enumerate(SPLITS)}

        def keys(name: str, read: Callable[[list[Any]], np.ndarray]) -> np.ndarray:
            tables = (self._open(path).select([name, "reason"]) for path in self._paths)
            cells = (table.filter(pa.compute.field("reason").is_null())[name].to_pylist() for table in tables)
            return np.concatenate([read([]), *map(read, cells)])

        return RowKeys(
            pixels=keys("pixels", lambda cells: np.frombuffer(b"".join(cells), dtype="<u8").reshape(-1, 2)),
            content=keys("content", lambda cells: np.array(cells, dtype=np.uint64)),
            phash=keys("phash", lambda cells: np.array([int(text, 16) for text in cells], dtype=np.uint64)),
            split=keys("split", lambda cells: np.array([code.get(s, UNSAID) for s in cells], dtype=np.int64)),
        )

    def usable(self, start: int) -> Int[np.ndarray, " n"]:
        """The usable rows of the window of chunks that begins with `start`."""
        return np.flatnonzero((self._chunk >= start) & (self._chunk < start + WINDOW_CHUNKS))

    def take(self, rows: Int[np.ndarray, " n"], split: str) -> pa.Table:
        """The rows in this order, as shards hold them."""
        order = np.argsort(self._chunk[rows], kind="stable")
        ordered = rows[order]
        parts = [
            self._open(self._paths[chunk]).take(self._place[ordered[self._chunk[ordered] == chunk]])
            for chunk in np.unique(self._chunk[ordered])
        ]
        back = np.empty(len(order), dtype=np.int64)
        back[order] = np.arange(len(order))
        table = pa.concat_tables(parts).select(STORED_SCHEMA.names).combine_chunks().take(back)
        column = pa.array([split] * len(rows), pa.string())
        return table.set_column(STORED_SCHEMA.get_field_index("split"), STORED_SCHEMA.field("split"), column)

    def refused_at_first(self, start: int) -> pa.Table:
        """What was refused for its own sake in the window that begins with chunk `start`."""
        tables = [
            self._open(path).filter(pa.compute.field("reason").is_valid()).select(QUARANTINE_SCHEMA.names)
            for path in self._paths[start : start + WINDOW_CHUNKS]
        ]
        return pa.concat_tables(tables).cast(QUARANTINE_SCHEMA)

    def refused(self, rows: list[int], outcome: Assignment) -> pa.Table:
        """What was refused for the sake of other rows."""
        lines = []
        for row in rows:
            reason, other = outcome.refused[row]
            detail = f"see {self._cells(other)['row']} in split {SPLITS[outcome.split[other]]}"
            lines.append(self._cells(row) | {"reason": reason.value, "detail": detail})
        return pa.Table.from_pylist(lines, schema=QUARANTINE_SCHEMA)

    def _cells(self, row: int) -> dict[str, Any]:
        chunk = self._open(self._paths[self._chunk[row]]).select(["row", "caption", "source"])
        return chunk.slice(int(self._place[row]), 1).to_pylist()[0]


def _open_chunk(path: Path) -> pa.Table:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (pa.ArrowException, OSError) as error:
        raise SalonError(
            f"{path} cannot be read ({error}): delete its folder and run the ingest stage again"
        ) from None
