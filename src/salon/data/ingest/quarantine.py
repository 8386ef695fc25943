"""Why a row cannot be used: every reason there is, and what it means."""

from dataclasses import dataclass
from enum import StrEnum

SHOWN_CHARACTERS = 500  # of a caption or a detail: a hostile one must not fill the file


class Reason(StrEnum):
    """What `quarantine.parquet` says in its column `reason`."""

    # where the picture should be
    NO_PICTURE = "no_picture"
    """The row names no picture, or one that does not exist."""
    NOT_A_FILE = "not_a_file"
    """A folder, a pipe or a device stands in its place."""
    OUTSIDE_SOURCE = "outside_source"
    """Its path leads out of the source (`../`, absolute, a link)."""
    UNREADABLE = "unreadable"
    """The system does not let it be read."""
    # the bytes
    EMPTY_FILE = "empty_file"
    TOO_MANY_BYTES = "too_many_bytes"
    """More than `max_bytes`."""
    NOT_A_PICTURE = "not_a_picture"
    """The bytes are of no picture format that is read."""
    MISLABELLED = "mislabelled"
    """The name claims another format than the bytes have (see `allow_mislabelled`)."""
    TRUNCATED = "truncated"
    """The picture ends too soon."""
    UNDECODABLE = "undecodable"
    """The format is right, the content is broken."""
    TOO_MANY_PIXELS = "too_many_pixels"
    """More than `max_pixels`: never decoded."""
    TOO_SMALL = "too_small"
    """A side is shorter than `min_side`."""
    UNKNOWN_RANGE = "unknown_range"
    """Its numbers are not brightness between known limits (floating point, 32 bits)."""
    # the caption
    NO_CAPTION = "no_caption"
    """There is none, or only blanks."""
    CAPTION_NOT_TEXT = "caption_not_text"
    CAPTION_ENCODING = "caption_encoding"
    """Not UTF-8."""
    CAPTION_CONTROL_CHARACTER = "caption_control_character"
    """A NUL byte or another control character."""
    CAPTION_TOO_SHORT = "caption_too_short"
    CAPTION_TOO_LONG = "caption_too_long"
    # what stands beside them
    BAD_METADATA = "bad_metadata"
    """The line or entry of the metadata cannot be read."""
    ATTRIBUTE_MISSING = "attribute_missing"
    """A column of `attributes` is empty in this row."""
    UNKNOWN_SPLIT = "unknown_split"
    """The split column says neither train, val, test nor novel."""
    BAD_LANGUAGE_TAG = "bad_language_tag"
    DAMAGED_FILE = "damaged_file"
    """A shard of the source ends too soon or cannot be read: what stood behind is lost."""
    # beside the other rows
    DUPLICATE = "duplicate"
    """The same picture with the same caption stands elsewhere."""
    IN_TWO_SPLITS = "in_two_splits"
    """The source has this picture, or one much like it, in an earlier split too."""


@dataclass(frozen=True)
class Rejection:
    """A reason, and what was seen."""

    reason: Reason
    detail: str = ""


def shown(text: object) -> str:
    """`text` as valid UTF-8, cut where it is long."""
    whole = str(text)
    cut = whole if len(whole) <= SHOWN_CHARACTERS else whole[: SHOWN_CHARACTERS - 1] + "…"
    return cut.encode("utf-8", "backslashreplace").decode("utf-8")
