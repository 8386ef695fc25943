"""Rows that cannot be used, each with the reason that it must be refused for."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from own_pictures import encoded, paint
from salon.data.ingest.quarantine import Reason

MAX_BYTES = 100_000
SETTINGS: dict[str, Any] = {"max_bytes": MAX_BYTES, "phash_distance": 0, "caption_length": [3, 60]}


@dataclass(frozen=True)
class Kind:
    """A bad row: a picture called `<name>.<extension>` and its caption."""

    name: str
    reason: Reason
    data: bytes = b""
    extension: str = "png"
    caption: Any = "an honest caption"


def _pictures() -> list[Kind]:
    large = paint(1, size=(200, 200))
    png, jpeg = encoded(large), encoded(large, "JPEG")
    header = png[12:16] + (60_000).to_bytes(4, "big") * 2 + png[24:29]
    bomb = png[:12] + header + zlib.crc32(header).to_bytes(4, "big") + png[33:]
    huge = bytearray(encoded(Image.new("RGB", (8, 8)), "BMP"))
    huge[18:26] = (9000).to_bytes(4, "little") * 2
    floating = encoded(Image.fromarray(np.full((40, 40), 0.5, dtype=np.float32)), "TIFF")
    integers = encoded(Image.fromarray(np.full((40, 40), 1 << 20, dtype=np.int32)), "TIFF")
    damaged = png[:60] + bytes(30) + png[90:]
    return [
        Kind("zero-bytes", Reason.EMPTY_FILE),
        Kind("garbage", Reason.NOT_A_PICTURE, b"garbage"),
        Kind("zeros", Reason.NOT_A_PICTURE, bytes(300)),
        Kind("web-page", Reason.NOT_A_PICTURE, b"<!doctype html><title>404</title>", "jpg"),
        Kind("drawing", Reason.NOT_A_PICTURE, b"<svg xmlns='http://www.w3.org/2000/svg'/>", "svg"),
        Kind("signature-alone", Reason.NOT_A_PICTURE, png[:8]),
        Kind("half-a-png", Reason.TRUNCATED, png[: len(png) // 2]),
        Kind("half-a-jpeg", Reason.TRUNCATED, jpeg[: len(jpeg) // 2], "jpg"),
        Kind("damaged", Reason.UNDECODABLE, damaged),
        Kind("bomb", Reason.TOO_MANY_PIXELS, bomb),
        Kind("bitmap-bomb", Reason.TOO_MANY_PIXELS, bytes(huge), "bmp"),
        Kind("jpeg-called-png", Reason.MISLABELLED, jpeg),
        Kind("gif-called-jpg", Reason.MISLABELLED, encoded(large, "GIF"), "jpg"),
        Kind("dot", Reason.TOO_SMALL, encoded(Image.new("RGB", (1, 1)))),
        Kind("thread", Reason.TOO_SMALL, encoded(Image.new("RGB", (300, 3)))),
        Kind("floating-point", Reason.UNKNOWN_RANGE, floating, "tif"),
        Kind("large-integers", Reason.UNKNOWN_RANGE, integers, "tif"),
        Kind("too-long-a-file", Reason.TOO_MANY_BYTES, png + bytes(MAX_BYTES)),
    ]


def _captions() -> list[Kind]:
    said: list[tuple[str, Any, Reason]] = [
        ("no-caption", None, Reason.NO_CAPTION),
        ("empty-caption", "", Reason.NO_CAPTION),
        ("blank-caption", " \t\u00a0 ", Reason.NO_CAPTION),
        ("nul-caption", "an owl\x00", Reason.CAPTION_CONTROL_CHARACTER),
        ("escape-caption", "an \x1b[31mowl", Reason.CAPTION_CONTROL_CHARACTER),
        ("short-caption", "ow", Reason.CAPTION_TOO_SHORT),
        ("long-caption", "an owl " * 9, Reason.CAPTION_TOO_LONG),
        ("endless-caption", "an owl " * 9000, Reason.CAPTION_TOO_LONG),
        ("cyrillic-bytes-caption", "сова на синем".encode("cp1251"), Reason.CAPTION_ENCODING),
        ("utf-16-caption", "an owl".encode("utf-16-le") + b"\xff", Reason.CAPTION_ENCODING),
        ("half-pair-caption", "an \ud800 owl", Reason.CAPTION_ENCODING),
        ("number-caption", 17, Reason.CAPTION_NOT_TEXT),
        ("object-caption", {"text": "an owl"}, Reason.CAPTION_NOT_TEXT),
    ]
    return [
        Kind(name, reason, encoded(paint(100 + number)), caption=caption)
        for number, (name, caption, reason) in enumerate(said)
    ]


PICTURES = _pictures()
CAPTIONS = _captions()
GOOD = [
    Kind(f"good-{n}", Reason.DUPLICATE, encoded(paint(200 + n)), caption=f"good caption {n}")
    for n in range(6)
]
"""They must come through; the last two of them stand twice, once in another encoding."""
TWICE = [
    Kind("twice-same-bytes", Reason.DUPLICATE, GOOD[4].data, caption=GOOD[4].caption),
    Kind(
        "twice-as-webp", Reason.DUPLICATE, encoded(paint(205), "WEBP", lossless=True), "webp", GOOD[5].caption
    ),
]


def texts() -> list[Kind]:
    """Captions that are text."""
    return [kind for kind in CAPTIONS if isinstance(kind.caption, str)]


def json_values() -> list[Kind]:
    """Captions that JSON can hold."""
    return [kind for kind in CAPTIONS if not isinstance(kind.caption, bytes)]
