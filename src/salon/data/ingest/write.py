"""Prepared chunks in, shards out: duplicates are refused, splits assigned, and the rows of a split mixed.

The rows of a source stand in its own order, all of one folder together; whoever takes the first hundred of a
split should get a fair sample. They are mixed within windows of chunks, so that memory stays bounded.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from salon.data.ingest.assign import UNSAID, Assignment, Refusal, RowKeys, assign_splits
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
    for window in prepared.windows():
        writer.quarantine(prepared.refused_at_first(window))
        if refused := [row for row in window.usable.tolist() if row in outcome.refused]:
            writer.quarantine(prepared.refused(refused, outcome))
        stay = window.usable[[row not in outcome.refused for row in window.usable.tolist()]]
        rng = np.random.default_rng([seed, window.first_chunk])
        for number, split in enumerate(SPLITS):
            rows = rng.permutation(stay[outcome.split[stay] == number])
            for start in range(0, len(rows), ROWS_AT_ONCE):
                writer.write_table(split, prepared.take(rows[start : start + ROWS_AT_ONCE], split))


class _Window(NamedTuple):
    """Neighbouring chunks, and the usable rows in them."""

    first_chunk: int
    last_chunk: int
    usable: Int[np.ndarray, " n"]


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
        pixels, content, phash, split = [], [], [], []
        code = {name: number for number, name in enumerate(SPLITS)}
        for path in self._paths:
            table = self._open(path).filter(pa.compute.field("reason").is_null())
            pixels.append(np.frombuffer(b"".join(table["pixels"].to_pylist()), dtype="<u8").reshape(-1, 2))
            content.append(table["content"].to_numpy())
            phash.append(np.frombuffer(bytes.fromhex("".join(table["phash"].to_pylist())), dtype=">u8"))
            split.append(
                np.array([code.get(name, UNSAID) for name in table["split"].to_pylist()], dtype=np.int64)
            )
        return RowKeys(
            pixels=np.concatenate([np.zeros((0, 2), dtype=np.uint64), *pixels]),
            content=np.concatenate([np.zeros(0, dtype=np.uint64), *content]),
            phash=np.concatenate([np.zeros(0, dtype=np.uint64), *phash]).astype(np.uint64),
            split=np.concatenate([np.zeros(0, dtype=np.int64), *split]),
        )

    def windows(self) -> Iterator[_Window]:
        for start in range(0, len(self._paths), WINDOW_CHUNKS):
            stop = min(start + WINDOW_CHUNKS, len(self._paths))
            yield _Window(start, stop, np.flatnonzero((self._chunk >= start) & (self._chunk < stop)))

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

    def refused_at_first(self, window: _Window) -> pa.Table:
        """What was refused for its own sake."""
        tables = [
            self._open(path).filter(pa.compute.field("reason").is_valid()).select(QUARANTINE_SCHEMA.names)
            for path in self._paths[window.first_chunk : window.last_chunk]
        ]
        return pa.concat_tables(tables).cast(QUARANTINE_SCHEMA)

    def refused(self, rows: list[int], outcome: Assignment) -> pa.Table:
        """What was refused for the sake of other rows."""
        lines = [self._line(row, outcome.refused[row], outcome) for row in rows]
        return pa.Table.from_pylist(lines, schema=QUARANTINE_SCHEMA)

    def _line(self, row: int, refusal: Refusal, outcome: Assignment) -> dict[str, str | None]:
        place = self._open(self._paths[self._chunk[row]]).slice(self._place[row], 1)
        other = self._open(self._paths[self._chunk[refusal.other]])["row"][int(self._place[refusal.other])]
        return {
            "row": place["row"][0].as_py(),
            "caption": place["caption"][0].as_py(),
            "reason": refusal.reason.value,
            "detail": f"see {other} in split {SPLITS[outcome.split[refusal.other]]}",
            "source": place["source"][0].as_py(),
        }


def _open_chunk(path: Path) -> pa.Table:
    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (pa.ArrowException, OSError) as error:
        raise SalonError(
            f"{path} cannot be read ({error}): delete its folder and run the ingest stage again"
        ) from None
