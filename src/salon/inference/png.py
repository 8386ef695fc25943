"""Pictures as PNG files that say where they come from."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from salon.inference.credentials import configured_signer
from salon.inference.provenance import Provenance, png_info

__all__ = ["Provenance", "encode_png"]  # models registered earlier import both from here


def encode_png(pixels: UInt8[np.ndarray, "h w 3"], provenance: Provenance) -> bytes:
    """The same pixels and provenance give the same bytes, unless this process signs what it draws."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", pnginfo=png_info(pixels, provenance))
    signer = configured_signer()
    return buffer.getvalue() if signer is None else signer.sign(buffer.getvalue(), provenance)
