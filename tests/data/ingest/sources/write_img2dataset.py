"""How the shards in `img2dataset/` were made: by img2dataset 1.47 itself, from a server on this machine.

It does not run beside this project's pandas, so `test_sources.py` makes it an environment of its own:

    python -m venv img2dataset-env && img2dataset-env/bin/pip install --no-deps -r img2dataset.lock
    img2dataset-env/bin/python write_img2dataset.py img2dataset
"""

import functools
import http.server
import shutil
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
from PIL import Image

CAPTIONS = (
    "a first drawing",
    "второй рисунок",
    'a third, "quoted"',
    "四番目の絵です",
    "a fifth drawing",
    "a sixth drawing",
)


def paint(number: int) -> Image.Image:
    """The same pictures as `own_pictures.paint`."""
    rng = np.random.default_rng(number)
    pixels = np.zeros((40, 40, 3), dtype=np.uint8)
    for _ in range(6):
        left, top = rng.integers(40), rng.integers(40)
        width, height = rng.integers(10, 40), rng.integers(10, 40)
        pixels[top : top + height, left : left + width] = rng.integers(256, size=3)
    return Image.fromarray(pixels)


def main() -> None:
    """Serve the pictures, have them downloaded, keep the shards."""
    import pandas as pd
    from img2dataset import download

    work = Path(tempfile.mkdtemp())
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(work))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    rows = []
    for number, caption in enumerate(CAPTIONS):
        paint(number).save(work / f"{number}.png")
        more = {"licence": "CC0-1.0", "author": f"painter {number}", "concept": ("owl", "bus")[number % 2]}
        rows.append({"url": f"{address}/{number}.png", "caption": caption} | more)
    rows.append({"url": f"{address}/gone.png", "caption": "gone", "licence": "", "author": "", "concept": ""})
    pd.DataFrame(rows).to_parquet(work / "urls.parquet")
    download(
        url_list=str(work / "urls.parquet"),
        input_format="parquet",
        url_col="url",
        caption_col="caption",
        save_additional_columns=["licence", "author", "concept"],
        output_format="webdataset",
        output_folder=str(work / "shards"),
        image_size=48,
        resize_mode="keep_ratio",
        processes_count=1,
        thread_count=2,
        number_sample_per_shard=4,
        encode_format="jpg",
    )
    server.shutdown()
    for file in sorted([*(work / "shards").glob("*.tar"), *(work / "shards").glob("*_stats.json")]):
        shutil.copy(file, sys.argv[1])


if __name__ == "__main__":
    main()
