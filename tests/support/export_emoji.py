"""The emoji art of one style as a folder of somebody's own pictures: captions in two languages, nothing else.

python tests/support/export_emoji.py noto data/raw/drawings
"""

import argparse
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

ARCHIVE = Path(__file__).parents[2] / "data/raw/emoji64.parquet"


def export(style: str, folder: Path, *, archive: Path = ARCHIVE, limit: int | None = None) -> int:
    """Write PNGs with alpha and `metadata.jsonl`; the number of pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = ["image", "text", "text_ru", "licence", "attribution", "duplicate_of"]
    records = pq.read_table(archive, columns=columns, filters=[("style", "=", style)]).to_pylist()
    lines = []
    for number, record in enumerate(records[:limit]):
        name = f"{number:05d}.png"
        Image.open(io.BytesIO(record["image"]["bytes"])).save(folder / name)
        line = {"file_name": name} | {
            key: record[key] for key in ("text", "text_ru", "licence", "attribution")
        }
        lines.append(json.dumps(line, ensure_ascii=False) + "\n")
    (folder / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    return len(lines)


def main() -> None:
    """Export the style that is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("style")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    print(f"{export(arguments.style, arguments.folder)} drawings in {arguments.folder}")


if __name__ == "__main__":
    main()
