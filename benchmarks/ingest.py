"""How fast is ingestion beside what one would otherwise use, and in how much memory?

An imagefolder of small drawings with `metadata.jsonl` becomes Parquet with embedded bytes, once by
`datasets` (load_dataset, embed, to_parquet) and once by us, who also decode every picture, hash pixels and
looks, find duplicates and assign the splits. Each in a process of its own, in turns; peak memory is that of
all its processes together.

    python benchmarks/ingest.py --pictures 100000 --repeats 2
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
import pyarrow.parquet as pq
import yaml
from PIL import Image

REPOSITORY = Path(__file__).parents[1]
SIDE = 32

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


def main() -> None:
    """Draw the pictures and let both read them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare_ingestion(Path(folder), count=arguments.pictures, repeats=arguments.repeats)


if __name__ == "__main__":
    main()
