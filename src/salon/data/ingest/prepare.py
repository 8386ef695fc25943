"""A chunk of what a source found, prepared in a worker process and kept as one Arrow file.

The file is written under a temporary name and renamed: where it stands, its chunk is done. That is the whole
journal of an ingestion that was interrupted.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from salon.data.ingest.captions import clean_caption, language_of
from salon.data.ingest.images import EncodedImage, perceptual_hashes, prepare_picture, read_bytes
from salon.data.ingest.quarantine import Reason, Rejection, shown
from salon.data.ingest.sources.base import SPLIT_NAMES, Found
from salon.data.schema import STORED_SCHEMA, entries, row_id
from salon.files import whole_file
from salon.params.sources import CaptionedParams

CHUNK_SCHEMA = pa.schema(
    [
        *STORED_SCHEMA,
        pa.field("row", pa.string()),  # where the source keeps it
        pa.field("pixels", pa.binary(16)),  # equal for two encodings of one picture
        pa.field("content", pa.uint64()),  # equal for two rows with one caption in one language
        pa.field("reason", pa.string()),  # null where the row can be used
        pa.field("detail", pa.string()),
    ]
)
"""A prepared row, whose `split` is still what the source says; or one that cannot be used."""


@dataclass(frozen=True)
class Chunk:
    """Pictures that one task of a worker process prepares."""

    number: int
    found: Sequence[Found]

    def path(self, folder: Path) -> Path:
        return folder / f"chunk-{self.number:07d}.arrow"


@dataclass(frozen=True)
class Preparation:
    """What a worker process knows of the source."""

    source: str
    settings: CaptionedParams
    folder: Path

    def prepare(self, chunk: Chunk) -> int:
        """Write the chunk's file; the number of its rows."""
        pictures = [self.decode(found) for found in chunk.found]
        usable = [picture.pixels for picture in pictures if isinstance(picture, EncodedImage)]
        phashes = iter(perceptual_hashes(usable) if usable else ())
        records: list[dict[str, Any]] = []
        for found, picture in zip(chunk.found, pictures, strict=True):
            if isinstance(picture, EncodedImage):
                records += self._caption(found, picture, next(phashes))
            else:
                records += [self._reject(found, caption.raw, picture) for caption in found.captions]
        self._write(chunk, records)
        return len(records)

    def decode(self, found: Found) -> EncodedImage | Rejection:
        """Read and decode one picture."""
        if isinstance(found.image, Rejection):
            return found.image
        if found.split is not None and found.split.lower() not in SPLIT_NAMES:
            return Rejection(Reason.UNKNOWN_SPLIT, f"{found.split!r}: known are {', '.join(SPLIT_NAMES)}")
        data = read_bytes(found.image, max_bytes=self.settings.max_bytes)
        if isinstance(data, Rejection):
            return data
        return prepare_picture(data, extension=found.extension, settings=self.settings)

    def _caption(self, found: Found, picture: EncodedImage, phash: str) -> list[dict[str, Any]]:
        settings = self.settings
        digest, sha256 = picture.digest, hashlib.sha256(picture.data).hexdigest()
        records: list[dict[str, Any]] = []
        for caption in found.captions:
            text = clean_caption(caption.raw, length=settings.caption_length)
            if isinstance(text, Rejection):
                records.append(self._reject(found, caption.raw, text))
                continue
            lang = caption.lang or (
                language_of(text, settings.scripts) if settings.language == "script" else settings.language
            )
            identity = row_id(picture.data, text, lang)
            said = hashlib.blake2b(f"{lang}\0{text}".encode(), digest_size=8).digest()
            records.append(
                {
                    "id": identity,
                    "image": {"bytes": picture.data, "path": f"{identity}.{picture.extension}"},
                    "caption": text,
                    "lang": lang,
                    "width": settings.image_size,
                    "height": settings.image_size,
                    "image_sha256": sha256,
                    "phash": phash,
                    "attributes": entries(found.attributes),
                    "factors": [],
                    "split": SPLIT_NAMES[found.split.lower()] if found.split else None,
                    "source": self.source,
                    "licence": found.licence or settings.licence,
                    "attribution": found.attribution or settings.attribution,
                    "row": found.where,
                    "pixels": digest,
                    "content": int.from_bytes(said, "little"),
                    "reason": None,
                }
            )
        return records

    def _reject(self, found: Found, caption: object, problem: Rejection) -> dict[str, Any]:
        text = caption.decode("utf-8", "backslashreplace") if isinstance(caption, bytes) else caption
        return {
            "caption": None if text is None else shown(text),
            "source": self.source,
            "row": shown(found.where),
            "reason": problem.reason.value,
            "detail": shown(problem.detail),
        }

    def _write(self, chunk: Chunk, records: list[dict[str, Any]]) -> None:
        table = pa.Table.from_pylist(records, schema=CHUNK_SCHEMA)
        with (
            whole_file(chunk.path(self.folder)) as part,
            pa.OSFile(str(part), "wb") as file,
            pa.ipc.new_file(file, CHUNK_SCHEMA) as writer,
        ):
            writer.write_table(table)
