"""How fast are ingestion and validation, beside what one would otherwise use, and in how much memory?

Pictures: an imagefolder of small drawings with `metadata.jsonl` becomes Parquet with embedded bytes, once by
`datasets` (load_dataset, embed, to_parquet) and once by us, who also decode every picture, hash pixels and
looks, find duplicates and deal the splits. Each in a process of its own, in turns; peak memory is that of
all its processes together. Rows: validation of that many rows of metadata.

    python benchmarks/ingest.py --pictures 100000 --repeats 2
    python benchmarks/ingest.py --rows 1000000
"""

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Event, Thread

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

REPOSITORY = Path(__file__).parents[1]
SIDE = 32
CHUNK_ROWS = 50_000

THEIRS = """
import sys, datasets
from datasets.table import embed_table_storage
folder, out = sys.argv[1:]
datasets.disable_progress_bars()
rows = datasets.load_dataset("imagefolder", data_dir=folder, split="train", cache_dir=out + ".cache")
embedded = rows.with_format("arrow").map(embed_table_storage, batched=True).with_format(None)
embedded.to_parquet(out)
"""


def draw_folder(folder: Path, count: int) -> None:
    """Emoji art on plain colours: no two alike."""
    archive = pq.read_table(REPOSITORY / "data/raw/emoji64.parquet", columns=["image", "text"]).slice(0, 1000)
    art = [
        np.asarray(Image.open(io.BytesIO(image["bytes"])).convert("RGBA").resize((SIDE, SIDE)), dtype=float)
        for image in archive["image"].to_pylist()
    ]
    names = archive["text"].to_pylist()
    rng = np.random.default_rng(0)
    with (folder / "metadata.jsonl").open("w", encoding="utf-8") as metadata:
        for number in range(count):
            drawing = art[number % len(art)]
            cover = drawing[..., 3:] / 255
            pixels = drawing[..., :3] * cover + rng.integers(256, size=3) * (1 - cover)
            name = f"{number // 1000:04d}/{number:07d}.png"
            if number % 1000 == 0:
                (folder / f"{number // 1000:04d}").mkdir()
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name)
            line = {"file_name": name, "text": f"{names[number % len(art)]}, drawing {number}"}
            metadata.write(json.dumps(line) + "\n")


def write_params(root: Path, folder: Path) -> None:
    raw = yaml.safe_load((REPOSITORY / "params.yaml").read_text(encoding="utf-8"))
    raw["ingest"] = {"source": "imagefolder", "path": str(folder), "imagefolder": {"image_size": SIDE}}
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")


def measure(command: list[str], *, cwd: Path) -> tuple[float, float]:
    """Seconds, and the largest memory in GB that the process and its children had together."""
    peak = 0
    ended = Event()

    def watch(pid: int) -> None:
        nonlocal peak
        while not ended.wait(0.1):
            try:
                parent = psutil.Process(pid)
                family = [parent, *parent.children(recursive=True)]
                # shared pages count once: forked workers share most of what they hold
                peak = max(peak, sum(process.memory_full_info().pss for process in family))
            except (psutil.NoSuchProcess, AttributeError):
                continue

    environment = os.environ | {"TQDM_DISABLE": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL)
    watcher = Thread(target=watch, args=(process.pid,))
    watcher.start()
    code = process.wait()
    seconds = time.perf_counter() - started
    ended.set()
    watcher.join()
    if code:
        raise SystemExit(f"{command[:3]} failed")
    return seconds, peak / 1e9


def compare_ingestion(work: Path, *, count: int, repeats: int) -> None:
    """Print pictures per second and memory of both, and the ratio."""
    folder = work / "drawings"
    folder.mkdir()
    draw_folder(folder, count)
    speeds: dict[str, list[float]] = {"datasets": [], "salon": []}
    memory = {"datasets": 0.0, "salon": 0.0}
    for repeat in range(repeats):
        out, root = work / f"theirs-{repeat}.parquet", work / f"ours-{repeat}"
        write_params(root, folder)
        commands = {
            "datasets": [sys.executable, "-c", THEIRS, str(folder), str(out)],
            "salon": [sys.executable, "-m", "salon", "ingest"],
        }
        for name, command in commands.items():
            seconds, gigabytes = measure(command, cwd=root)
            speeds[name].append(count / seconds)
            memory[name] = max(memory[name], gigabytes)
        check_equal(out, root, count)
        shutil.rmtree(root)
        shutil.rmtree(f"{out}.cache")
        out.unlink()
    for name, values in speeds.items():
        print(f"{name:<9} {statistics.median(values):8.0f} pictures/s  {memory[name]:.2f} GB at most")
    ratios = [ours / theirs for ours, theirs in zip(speeds["salon"], speeds["datasets"], strict=True)]
    print(f"salon is {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})")


def check_equal(theirs: Path, root: Path, count: int) -> None:
    """Both hold every picture, with its bytes."""
    report = json.loads((root / "reports" / "ingest.json").read_text(encoding="utf-8"))
    assert report["ingested"] == count, report
    file = pq.ParquetFile(theirs)
    assert file.metadata.num_rows == count
    first = next(file.iter_batches(1)).to_pylist()[0]
    assert first["image"]["bytes"], "datasets stored a path only"


def write_rows(folder: Path, count: int) -> dict[str, int]:
    """Shards of `count` rows with metadata as ingestion writes them and one small picture for all."""
    from salon.data.schema import STORED_SCHEMA
    from salon.data.shards import HF_METADATA

    folder.mkdir(parents=True)
    counts = dict.fromkeys(("train", "val", "test", "novel"), 0)
    rng = np.random.default_rng(0)
    shards = dict.fromkeys(counts, 0)
    for start in range(0, count, CHUNK_ROWS):
        rows = min(CHUNK_ROWS, count - start)
        split = "val" if start == CHUNK_ROWS else "test" if start == 2 * CHUNK_ROWS else "train"
        numbers = range(start, start + rows)
        phashes = rng.integers(2**64, size=rows, dtype=np.uint64)
        columns = {
            "id": [f"{number:016x}" for number in numbers],
            "image": [{"bytes": b"", "path": f"{number}.png"} for number in numbers],
            "caption": [f"a drawing with the number {number}" for number in numbers],
            "lang": ["en"] * rows,
            "width": [SIDE] * rows,
            "height": [SIDE] * rows,
            "image_sha256": [f"{number:064x}" for number in numbers],
            "phash": [f"{value:016x}" for value in phashes],
            "attributes": [[]] * rows,
            "split": [split] * rows,
            "source": ["imagefolder"] * rows,
            "licence": ["CC0-1.0"] * rows,
            "attribution": ["nobody"] * rows,
        }
        table = pa.table(columns, schema=STORED_SCHEMA).replace_schema_metadata(HF_METADATA)
        pq.write_table(table, folder / f"{split}-{shards[split]:05d}.parquet", compression="zstd")
        shards[split] += 1
        counts[split] += rows
    empty = STORED_SCHEMA.empty_table().replace_schema_metadata(HF_METADATA)
    pq.write_table(empty, folder / "novel-00000.parquet")
    return counts


def time_validation(work: Path, *, count: int) -> None:
    """Print how long the verdict on `count` rows of metadata takes."""
    from salon.data.evidence import KnownSources, gather
    from salon.data.verdict import judge
    from salon.params import ValidateParams

    counts = write_rows(work / "rows", count)
    settings = ValidateParams()
    sources = KnownSources(phrase_books={}, rendered=frozenset())
    started = time.perf_counter()
    evidence = gather(work / "rows", ingested=counts, sources=sources, settings=settings, open_pictures=False)
    gathered = time.perf_counter() - started
    verdict = judge(evidence, settings)
    seconds = time.perf_counter() - started
    failed = [result.name for result in verdict.failures]
    peak = psutil.Process().memory_info().rss / 1e9
    print(
        f"{count} rows of metadata: {seconds:.1f} s ({gathered:.1f} s to gather, {seconds - gathered:.1f} s "
        f"to judge), {peak:.1f} GB; failed: {', '.join(failed) or 'nothing'}"
    )


def main() -> None:
    """Answer what is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--rows", type=int, default=0)
    arguments = parser.parse_args()
    if not arguments.pictures and not arguments.rows:
        arguments.pictures, arguments.rows = 100_000, 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        if arguments.pictures:
            compare_ingestion(Path(folder), count=arguments.pictures, repeats=arguments.repeats)
        if arguments.rows:
            time_validation(Path(folder), count=arguments.rows)


if __name__ == "__main__":
    main()
