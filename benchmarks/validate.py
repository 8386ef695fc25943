"""How long does it take to validate the metadata of a million rows? `python benchmarks/validate.py [ROWS]`

The rows are made up, valid, and as varied as those of a large set of captioned photographs: no two ids or
pictures are the same, perceptual hashes are random, captions are in two languages, and attributes have
200 x 20 x 20 values. Processor seconds tell more than those of the clock where others are at work.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from salon.data.ingest.worlds.base import NOTHING_KNOWN
from salon.data.schema import STORED_SCHEMA
from salon.data.validate.frames import gather
from salon.data.validate.results import judge
from salon.params import load_params
from salon.paths import SPLITS

SHARES = {"train": 0.96, "val": 0.01, "test": 0.02, "novel": 0.01}
ROWS_PER_SHARD = 100_000
PARAMS = Path(__file__).parents[1] / "params.yaml"
SETTINGS = load_params(PARAMS).validate_.model_copy(update={"max_attribute_imbalance": 10})
VALUES = {"concept": 200, "style": 20, "background": 20}


def write_shards(folder: Path, rows: int) -> dict[str, int]:
    """Shards whose pictures are empty; rows per split."""
    rng = np.random.default_rng(0)
    counts = {split: round(rows * share) for split, share in SHARES.items()}
    done = 0
    for split, count in counts.items():
        for shard, start in enumerate(range(0, count, ROWS_PER_SHARD)):
            n = min(ROWS_PER_SHARD, count - start)
            table = make_table(np.arange(done, done + n), split, rng)
            pq.write_table(table, folder / f"{split}-{shard:05d}.parquet", compression="zstd")
            done += n
    return counts


def make_table(numbers: np.ndarray, split: str, rng: np.random.Generator) -> pa.Table:
    """Rows `numbers`; `novel` has the combinations whose concept and style add up to a multiple of 20."""
    n = len(numbers)
    chosen = {name: rng.integers(size, size=n) for name, size in VALUES.items()}
    offset = (chosen["concept"] + chosen["style"]) % VALUES["style"]
    shift = -offset if split == "novel" else (offset == 0).astype(np.int64)
    chosen["style"] = (chosen["style"] + shift) % VALUES["style"]
    hashes = rng.integers(2**64, size=n, dtype=np.uint64)
    entries = np.stack([np.char.add(f"{name} ", chosen[name].astype(str)) for name in VALUES], axis=1)
    attributes = pa.ListArray.from_arrays(
        pa.array(np.arange(n + 1) * len(VALUES), pa.int32()),
        pa.StructArray.from_arrays(
            [pa.array(list(VALUES) * n), pa.array(entries.ravel().tolist())], names=["key", "value"]
        ),
    )
    columns = {
        "id": [f"{number:016x}" for number in numbers],
        "image": pa.StructArray.from_arrays(
            [pa.array([b""] * n, pa.binary()), pa.nulls(n, pa.string())], names=["bytes", "path"]
        ),
        "caption": [
            f"picture {number % 99991} of {a}, {b}, {c}"
            for number, (a, b, c) in zip(numbers, entries, strict=True)
        ],
        "lang": np.where(numbers % 2, "ru", "en"),
        "width": pa.array(np.full(n, 64), pa.int32()),
        "height": pa.array(np.full(n, 64), pa.int32()),
        "image_sha256": [f"{number:064x}" for number in numbers],
        "phash": [f"{value:016x}" for value in hashes],
        "attributes": attributes,
        "split": [split] * n,
        "source": ["photographs"] * n,
        "licence": ["CC-BY-4.0"] * n,
        "attribution": np.char.add("author ", (numbers % 5000).astype(str)),
    }
    return pa.table(list(columns.values()), names=list(columns)).cast(STORED_SCHEMA)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int, nargs="?", default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counts = write_shards(folder, rows)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started, busy = time.perf_counter(), -time.process_time()
        measured = gather(
            folder,
            ingested={split: counts[split] for split in SPLITS},
            sources=NOTHING_KNOWN,
            settings=SETTINGS,
            open_pictures=False,
        )
        gathered = time.perf_counter()
        verdict = judge(measured, SETTINGS)
        ended, busy = time.perf_counter(), busy + time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for result in verdict.failures:
        print(f"FAILED {result.name}: {result.failed} of {result.checked}; {result.failing[:1]}")
    print(
        f"{rows} rows: {ended - started:.1f} s, {busy:.1f} of one processor; "
        f"gather {gathered - started:.1f} s, judge {ended - gathered:.1f} s; "
        f"peak {peak / 2**20:.2f} GB, {before / 2**20:.2f} before"
    )
    sys.exit(not verdict.passed)


if __name__ == "__main__":
    main()
