"""The row that every source is normalised to, and its Arrow schema.

`image` is the struct that the Hugging Face `datasets` `Image` feature reads, so the shards open as they are in
`datasets`, DuckDB, Spark and Ray.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())]), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("lang", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("image_sha256", pa.string(), nullable=False),
        pa.field("phash", pa.string(), nullable=False),
        pa.field("attributes", pa.map_(pa.string(), pa.string()), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("licence", pa.string(), nullable=False),
        pa.field("attribution", pa.string(), nullable=False),
    ]
)

QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("row", pa.string(), nullable=False),  # where the source keeps it
        pa.field("caption", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
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

    def to_record(self) -> dict[str, Any]:
        """The row as `SCHEMA` wants it, with its hashes."""
        identity = row_id(self.image_bytes, self.caption, self.lang)
        return {
            "id": identity,
            "image": {"bytes": self.image_bytes, "path": f"{identity}.png"},
            "caption": self.caption,
            "lang": self.lang,
            "width": self.width,
            "height": self.height,
            "image_sha256": hashlib.sha256(self.image_bytes).hexdigest(),
            "phash": self.phash,
            "attributes": list(self.attributes.items()),
            "split": self.split,
            "source": self.source,
            "licence": self.licence,
            "attribution": self.attribution,
        }


def row_id(image_bytes: bytes, caption: str, lang: str) -> str:
    """First 16 hex digits of sha256(image bytes + caption + lang)."""
    return hashlib.sha256(image_bytes + caption.encode() + lang.encode()).hexdigest()[:16]
