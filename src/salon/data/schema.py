"""The row that every source is normalised to, and its Arrow schema.

`image` is the struct that the `Image` feature of Hugging Face `datasets` reads: the shards open as they are
in `datasets`, DuckDB, Spark and Ray. No field is marked not-null: `datasets` takes such a column for another
type and leaves the pictures undecoded. The validation stage looks for nulls instead.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        pa.field("caption", pa.string()),
        pa.field("lang", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("image_sha256", pa.string()),
        pa.field("phash", pa.string()),
        pa.field("attributes", pa.map_(pa.string(), pa.string())),
        pa.field("factors", pa.map_(pa.string(), pa.float32())),
        pa.field("split", pa.string()),
        pa.field("source", pa.string()),
        pa.field("licence", pa.string()),
        pa.field("attribution", pa.string()),
    ]
)

# `datasets` has no map type and refuses the whole file. A list of entries is what a map is made of; DuckDB
# and Spark turn it into one with `map_from_entries(attributes)`, `read_shard` with no copy.
STORED_SCHEMA = pa.schema(
    pa.field(each.name, pa.list_(pa.struct([("key", each.type.key_type), ("value", each.type.item_type)])))
    if pa.types.is_map(each.type)
    else each
    for each in SCHEMA
)
MAPS = tuple(each.name for each in SCHEMA if pa.types.is_map(each.type))

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("row", pa.string(), nullable=False),  # where the source keeps it
        pa.field("caption", pa.string()),
        pa.field("reason", pa.string(), nullable=False),  # one of salon.data.ingest.quarantine.Reason
        pa.field("detail", pa.string()),  # what was seen
        pa.field("source", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Row:
    """One picture with one caption. `image_bytes` is an encoded PNG, JPEG or WebP."""

    image_bytes: bytes
    caption: str
    lang: str
    width: int
    height: int
    phash: str
    split: str
    source: str
    licence: str
    attribution: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    """What the caption says, where it is known."""
    factors: Mapping[str, float] = field(default_factory=dict)
    """What a renderer drew at random and no caption says, as place and size."""

    def to_record(self) -> dict[str, Any]:
        """The row as `STORED_SCHEMA` wants it, with its hashes."""
        identity = row_id(self.image_bytes, self.caption, self.lang)
        as_they_are = {name: value for name, value in vars(self).items() if name != "image_bytes"}
        return as_they_are | {
            "id": identity,
            "image": {"bytes": self.image_bytes, "path": f"{identity}.png"},
            "image_sha256": hashlib.sha256(self.image_bytes).hexdigest(),
            **{name: entries(as_they_are[name]) for name in MAPS},
        }


def entries(mapping: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A map as `STORED_SCHEMA` keeps it."""
    return [{"key": key, "value": value} for key, value in mapping.items()]


def row_id(image_bytes: bytes, caption: str, lang: str) -> str:
    """First 16 hex digits of sha256(image bytes + caption + lang)."""
    return hashlib.sha256(image_bytes + caption.encode() + lang.encode()).hexdigest()[:16]
