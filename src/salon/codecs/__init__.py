"""Codecs by name."""

from salon.codecs.base import Codec
from salon.codecs.pixels import PixelCodec
from salon.errors import SalonError

CODECS: dict[str, type[Codec]] = {"pixels": PixelCodec}


def load_codec(name: str) -> Codec:
    """The frozen codec called `name`.

    Raises:
        SalonError: there is no such codec.
    """
    if name not in CODECS:
        raise SalonError(f"unknown codec {name!r}: one of {sorted(CODECS)}")
    return CODECS[name]().eval().requires_grad_(False)
