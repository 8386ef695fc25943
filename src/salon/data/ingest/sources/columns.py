"""A row of named values (JSON, CSV, Parquet, a hub) read as captions, attributes and provenance."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salon.data.ingest.captions import check_tag
from salon.data.ingest.images import ByteRange
from salon.data.ingest.quarantine import Reason, Rejection
from salon.data.ingest.sources.base import Caption, Found
from salon.errors import SalonError
from salon.params.sources import CaptionedParams

CAPTION_COLUMNS = ("text", "caption", "captions")  # what people and tools call it


@dataclass(frozen=True)
class Described:
    """What a row says beside its picture."""

    captions: tuple[Caption, ...]
    split: str | None
    attributes: Mapping[str, str]
    licence: str | None
    attribution: str | None
    problem: Rejection | None = None
    """Why none of it can be used."""

    def of(
        self, image: Path | ByteRange | bytes | Rejection, where: str, extension: str, *, split: str | None
    ) -> Found:
        """The picture that the row describes; it is in `split` where the row does not say."""
        return Found(
            where,
            self.problem or image,
            self.captions,
            extension,
            self.split or split,
            self.attributes,
            self.licence,
            self.attribution,
        )


def parse_record(data: bytes) -> dict[str, Any] | Rejection:
    """The row that a line or a file of JSON holds."""
    try:
        record = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Rejection(Reason.CAPTION_ENCODING, f"JSON is not UTF-8: {error.reason}")
    except (ValueError, RecursionError) as error:
        return Rejection(Reason.BAD_METADATA, f"no JSON: {error}")
    return record if isinstance(record, dict) else Rejection(Reason.BAD_METADATA, "no JSON object")


def describe(record: Mapping[str, Any], settings: CaptionedParams) -> Described:
    """Read the columns that the settings name."""
    columns = settings.columns
    problem: Rejection | None = None
    lang = _text(record, columns.lang)
    if lang is not None:
        tag = check_tag(lang)
        problem, lang = (tag, None) if isinstance(tag, Rejection) else (None, tag)
    attributes: dict[str, str] = {}
    for attribute, column in settings.attributes.items():
        value = _text(record, column)
        if value is None:
            problem = problem or Rejection(Reason.ATTRIBUTE_MISSING, f"{attribute}: {column!r} is empty")
        else:
            attributes[attribute] = value
    return Described(
        captions=_captions(record, settings, lang) or (Caption(None),),
        split=_text(record, columns.split),
        attributes=attributes,
        licence=_text(record, columns.licence),
        attribution=_text(record, columns.attribution),
        problem=problem,
    )


def named_columns(settings: CaptionedParams) -> list[str]:
    """The columns that the settings name, other than that of the picture."""
    columns = settings.columns
    captions = columns.caption.values() if isinstance(columns.caption, dict) else [columns.caption]
    others = (columns.lang, columns.split, columns.licence, columns.attribution)
    return [name for name in (*captions, *others, *settings.attributes.values()) if name is not None]


def require_columns(
    present: Iterable[str], settings: CaptionedParams, *, where: str, pictures_of: str | None = None
) -> None:
    """Refuse settings that name a column which the source does not have: no row could be used.

    Args:
        pictures_of: The source whose pictures stand in a column too.

    Raises:
        SalonError: a column is missing; the message lists those that are there.
    """
    known = list(present)
    has = f"it has {', '.join(known)}"
    image = settings.columns.image
    if pictures_of and image not in known:
        raise SalonError(
            f"{where} has no column {image!r} with pictures; {has}: name it in `columns: {{image: …}}` of "
            f"ingest.{pictures_of}"
        )
    if settings.columns.caption is None and not set(CAPTION_COLUMNS) & set(known):
        raise SalonError(
            f"{where} has no column {' or '.join(map(repr, CAPTION_COLUMNS))} for the captions; {has}: name "
            "one in `columns: {caption: …}` of the source's section"
        )
    for name in named_columns(settings):
        if name not in known:
            raise SalonError(f"{where} has no column {name!r}; {has}")


def _captions(record: Mapping[str, Any], settings: CaptionedParams, lang: str | None) -> tuple[Caption, ...]:
    column = settings.columns.caption
    if isinstance(column, dict):
        return tuple(
            Caption(text, tag)
            for tag, name in column.items()
            for text in _several(record.get(name))
            if text is not None and text != ""  # a picture need not be captioned in every language
        )
    if column is None:
        column = next((name for name in CAPTION_COLUMNS if name in record), CAPTION_COLUMNS[0])
    return tuple(Caption(text, lang) for text in _several(record.get(column)))


def _several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _text(record: Mapping[str, Any], column: str | None) -> str | None:
    """The value as text; `None` where the column is not asked for, missing or blank."""
    value = record.get(column) if column is not None else None
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    text = "" if value is None else str(value).strip().encode("utf-8", "backslashreplace").decode("utf-8")
    return text or None
