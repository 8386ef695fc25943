"""One shard opened and every row of it measured: what do the bytes say, whatever the columns claim?"""

import hashlib
import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from salon.data.schema import MAPS, STORED_SCHEMA, row_id
from salon.data.shards import read_shard
from salon.errors import SalonError
from salon.paths import SPLITS

SHARD_NAME = re.compile(rf"({'|'.join(SPLITS)})-\d{{5}}\.parquet")
SHOWN_PER_SPLIT = 12  # pictures on the contact sheet


@dataclass(frozen=True)
class SampleImage:
    """A picture of the contact sheet."""

    split: str
    caption: str
    image_bytes: bytes
    mime: str


def open_shard(path: Path, *, with_pictures: bool = True) -> tuple[dict[str, Any], pa.Table | None]:
    """The shard's line in the frame of shards, and its rows where they can be read."""
    line: dict[str, Any] = {"shard": path.name, "unreadable": None, "schema_difference": None, "rows": None}
    if not SHARD_NAME.fullmatch(path.name):
        return line | {"unreadable": "is not named <split>-<number>.parquet: no stage reads it"}, None
    try:
        schema = pq.read_schema(path)
        if not schema.equals(STORED_SCHEMA):
            return line | {"schema_difference": _difference(schema)}, None
        columns = None if with_pictures else [name for name in STORED_SCHEMA.names if name != "image"]
        table = read_shard(path, columns=columns)
        table.validate(full=True)  # finds text that is not UTF-8
    except (pa.ArrowException, OSError) as error:
        return line | {"unreadable": f"is not a readable Parquet file: {error}"}, None
    except SalonError as error:
        return line | {"unreadable": str(error)}, None
    return line | {"rows": table.num_rows}, table


def _difference(schema: pa.Schema) -> str:
    expected, found = set(STORED_SCHEMA.names), set(schema.names)
    differences = [f"column {name!r} is missing" for name in STORED_SCHEMA.names if name not in found]
    differences += [f"column {name!r} is unknown" for name in schema.names if name not in expected]
    for wanted in STORED_SCHEMA:
        if wanted.name in found and schema.field(wanted.name) != wanted:
            differences.append(f"column {wanted.name!r} is {schema.field(wanted.name)}, not {wanted}")
    return "; ".join(differences) or f"columns stand in another order: {', '.join(schema.names)}"


def measure_rows(table: pa.Table, shard: str, *, largest_side: int) -> dict[str, list[Any]]:
    """The columns as they stand (without the bytes), and what the bytes say.

    A table without pictures is believed.
    """
    facts: dict[str, list[Any]] = {
        name: table[name].to_pylist() for name in table.column_names if name not in ("image", *MAPS)
    }
    for name in MAPS:
        facts[name] = [None if pairs is None else dict(pairs) for pairs in table[name].to_pylist()]
    facts["shard"] = [shard] * table.num_rows
    facts["row"] = list(range(table.num_rows))
    facts["shard_split"] = [shard.split("-")[0]] * table.num_rows
    if "image" not in table.column_names:
        unseen = (*(column.name for column in fields(_Decoded)), "real_id")
        # which of the pictures are the same is believed
        believed = {"picture": [sha256 or "" for sha256 in facts["image_sha256"]]}
        return facts | dict.fromkeys(unseen, [None] * table.num_rows) | believed
    cells = table["image"].to_pylist()
    found = [_decode(cell, largest_side=largest_side) for cell in cells]
    for column in fields(_Decoded):
        facts[column.name] = [getattr(decoded, column.name) for decoded in found]
    facts["real_id"] = [
        # without a picture or a caption the id is not the news
        row_id(cell["bytes"], caption, lang)
        if decoded.real_sha256 and (caption or "").strip() and lang
        else None
        for cell, decoded, caption, lang in zip(cells, found, facts["caption"], facts["lang"], strict=True)
    ]
    return facts


@dataclass(frozen=True)
class _Decoded:
    image_problem: str
    """Empty where there is none."""
    real_width: int | None = None
    real_height: int | None = None
    real_sha256: str | None = None
    """Null, like the size, where the picture does not decode: its hash is not the news then."""
    picture: str = ""
    """Hash of the pixels: equal for two encodings of one picture. Of what does not decode: of its bytes."""
    mime: str | None = None
    """Null where the picture is not to be shown."""


def _decode(cell: Mapping[str, Any] | None, *, largest_side: int) -> _Decoded:
    data = cell and cell["bytes"]
    if not data:
        return _Decoded("holds no bytes")
    sha256 = hashlib.sha256(data).hexdigest()
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG", "WEBP"]) as image:
            width, height = image.size
            mime = image.get_format_mimetype()
            if max(width, height) > largest_side:  # its size is the complaint; a bomb must not go off here
                return _Decoded("", width, height, sha256, sha256)
            # only the mode that needs it is converted: a copy of every picture is a second in 25,000
            pixels = (image if image.mode == "RGB" else image.convert("RGB")).tobytes()
    except Exception as error:  # hostile bytes make Pillow raise nearly anything
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        # Pillow names the buffer by its address, which changes from run to run
        return _Decoded(f"does not decode ({re.sub(r' ?<_io.BytesIO.*?>', '', reason)})", picture=sha256)
    picture = hashlib.blake2b(pixels + f"{width}x{height}".encode(), digest_size=16).hexdigest()
    return _Decoded("", width, height, sha256, picture, mime)


def sample_pictures(table: pa.Table, facts: dict[str, list[Any]], *, seen: Counter[str]) -> list[SampleImage]:
    found: list[SampleImage] = []
    for row, split in enumerate(facts["split"]):
        if seen[split] < SHOWN_PER_SPLIT and split in SPLITS and facts["mime"][row]:
            seen[split] += 1
            data = table["image"][row].as_py()["bytes"]
            found.append(SampleImage(split, facts["caption"][row] or "", data, facts["mime"][row]))
    return found
