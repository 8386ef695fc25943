"""The emoji archive: one drawing a row, with its captions, its style and whom to credit."""

import io
from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from salon.data.ingest.worlds.scenes import BACKGROUNDS, STYLES_RU, Artwork
from salon.errors import SalonError
from salon.params.worlds import EmojiPairsParams, EmojiParams

Filters = Sequence[tuple[str, str, Sequence[str]]]


def read_archive(
    archive: Path, *, filters: Filters = (), columns: list[str] | None = None
) -> list[dict[str, Any]]:
    """The rows of the archive, or of those that pass all `filters`.

    Raises:
        SalonError: it is missing or unreadable.
    """
    if not archive.is_file():
        raise SalonError(f"{archive} does not exist: ingest.path must name the emoji archive")
    try:
        return pq.read_table(archive, columns=columns, filters=list(filters) or None).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise SalonError(f"{archive} is not a readable emoji archive: {error}") from None


def read_artwork(
    archive: Path, params: EmojiParams | EmojiPairsParams, *, section: str
) -> dict[tuple[str, str], Artwork]:
    """The drawings that the settings in `section` ask for: (concept, style) -> artwork.

    Raises:
        SalonError: the archive is missing or unreadable, or lacks one of them; or a background is unknown.
    """
    concepts, styles = params.concepts, params.styles
    check_names(params.backgrounds, BACKGROUNDS, where=f"{section}.backgrounds")
    check_names(styles, STYLES_RU, where=f"{section}.styles")
    artwork: dict[tuple[str, str], Artwork] = {}
    for record in read_archive(archive, filters=[("text", "in", concepts), ("style", "in", styles)]):
        key = (record["text"], record["style"])
        if key not in artwork:  # the archive repeats some drawings; the first one counts
            artwork[key] = to_artwork(record)
    missing = [pair for pair in product(concepts, styles) if pair not in artwork]
    if missing:
        shown = ", ".join(f"{concept!r} in {style!r}" for concept, style in missing[:5])
        others = f" and {len(missing) - 5} others" if len(missing) > 5 else ""
        raise SalonError(f"{archive} has no picture of {shown}{others}")
    return artwork


def to_artwork(record: dict[str, Any]) -> Artwork:
    """One row of the archive, its picture decoded."""
    return Artwork(
        rgba=np.asarray(Image.open(io.BytesIO(record["image"]["bytes"])).convert("RGBA")),
        concept=record["text"],
        style=record["style"],
        concept_names={"en": record["text"], "ru": record["text_ru"]},
        style_names={"en": record["style_text"], "ru": STYLES_RU[record["style"]]},
        licence=record["licence"],
        attribution=f"{record['attribution']} ({record['source']})",
    )


def check_names(names: Iterable[str], known: Iterable[str], *, where: str) -> None:
    """Refuse names that are not known.

    Raises:
        SalonError: there is one.
    """
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise SalonError(f"{where}: unknown {unknown}; known are {sorted(known)}")
