"""What a picture says of itself: that a machine drew it, which one, and what it takes to draw it again.

Two audiences. Platforms read the XMP packet: IPTC's digital source type and the fields for AI systems of the
Photo Metadata Standard 2025.1. People and `salon inspect` read the PNG's text chunks, one per field, with a
digest of the pixels and a digest of the record. The digests are no signature: they tell a picture that was
edited or damaged from one that was not, and whoever means to forge one recomputes them. Content Credentials
(`salon.inference.credentials`) are signed.
"""

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any
from xml.sax.saxutils import quoteattr

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo
from pydantic import Field, TypeAdapter, ValidationError

import salon
from salon.errors import SalonError

# IPTC's term for pictures made by a trained model; what platforms read to label them
DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
PIXELS_DIGEST, RECORD_DIGEST = "pixels_sha256", "record_sha256"
XMP_KEY = "XML:com.adobe.xmp"  # the PNG keyword under which Adobe's specification places the packet
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, sec. 2.2
NAME, SHA256 = r"^[\w-][\w.-]*$", r"^[0-9a-f]{64}$"  # a picture comes from anywhere: no path, no quote
MAX_PIXELS = 4096 * 4096  # a small file may unpack to gigabytes
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Provenance:
    """What it takes to draw a picture again. None of a setting is the model's own value."""

    prompt: str
    seed: int
    method: Annotated[str, Field(pattern=NAME)]
    model_version: Annotated[str, Field(pattern=NAME)]
    data_sha256: Annotated[str, Field(pattern=SHA256)]
    model_sha256: Annotated[str, Field(pattern=SHA256)] | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None


@dataclass(frozen=True)
class Record:
    """A picture read back: its pixels and what it says of itself, which was found whole."""

    provenance: Provenance
    software: str
    digital_source_type: str | None
    pixels: UInt8[np.ndarray, "h w 3"]


class ProvenanceError(SalonError):
    """A file that does not say where it comes from, or says what cannot be true."""


def encode_png(pixels: UInt8[np.ndarray, "h w 3"], provenance: Provenance) -> bytes:
    """A PNG that says where it comes from; the same for the same pixels and provenance: no time, no place."""
    record = {name: str(value) for name, value in vars(provenance).items() if value is not None}
    record[PIXELS_DIGEST] = pixels_sha256(pixels)
    info = PngInfo()
    info.add_text("Software", f"salon {salon.__version__}")
    info.add_text("Source", "AI-generated")
    for name, text in {"Description": provenance.prompt, **record}.items():
        info.add_itxt(name, text)
    info.add_text(RECORD_DIGEST, _record_sha256(record))
    info.add_itxt(XMP_KEY, _xmp(provenance))
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", pnginfo=info)
    return buffer.getvalue()


def read_record(content: bytes, *, name: str) -> Record:
    """Read a PNG's pixels and provenance; `name` is how errors speak of it.

    Raises:
        ProvenanceError: it is no PNG, is damaged, says nothing, or was changed after it was drawn.
    """
    pixels, text = _open(content, name=name)
    known = [field.name for field in fields(Provenance)]
    record = {key: text[key] for key in (*known, PIXELS_DIGEST) if key in text}
    if RECORD_DIGEST not in text or PIXELS_DIGEST not in text:
        raise ProvenanceError(
            f"{name} does not say where it comes from: salon did not draw it, or its metadata were removed, "
            "as many sites do with uploaded pictures"
        )
    if _record_sha256(record) != text[RECORD_DIGEST]:
        raise ProvenanceError(
            f"the text in {name} was changed after it was drawn: what it says of itself cannot be trusted"
        )
    if pixels_sha256(pixels) != text[PIXELS_DIGEST]:
        raise ProvenanceError(f"the pixels of {name} were changed after it was drawn")
    try:
        provenance = TypeAdapter(Provenance).validate_python({key: record.get(key) for key in known})
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"]))
        said = f"the text in {name} holds no valid {field}: it was not drawn by salon"
        raise ProvenanceError(said) from None
    source_type = re.search(r'DigitalSourceType="([^"]*)"', text.get(XMP_KEY, ""))
    return Record(provenance, text.get("Software", ""), source_type and source_type[1], pixels)


def pixels_sha256(pixels: UInt8[np.ndarray, "h w 3"]) -> str:
    """Digest of what is seen, whatever the file around it."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def _record_sha256(record: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _open(content: bytes, *, name: str) -> tuple[UInt8[np.ndarray, "h w 3"], dict[str, Any]]:
    if not content.startswith(PNG_SIGNATURE):
        raise ProvenanceError(f"{name} is no PNG file")
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            assert isinstance(image, PngImageFile)
            if image.width * image.height > MAX_PIXELS:
                raise ProvenanceError(f"{name} is larger than {MAX_PIXELS:,} pixels: salon did not draw it")
            # reads every chunk, also those after the pixels
            return np.asarray(image.convert("RGB")), dict(image.text)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ProvenanceError(f"{name} is a damaged PNG file: {error}") from None


def _xmp(provenance: Provenance) -> str:
    values = {
        "xmp:CreatorTool": f"salon {salon.__version__}",
        "Iptc4xmpExt:DigitalSourceType": DIGITAL_SOURCE_TYPE,
        "Iptc4xmpExt:AISystemUsed": f"salon-{provenance.method}",
        "Iptc4xmpExt:AISystemVersionUsed": provenance.model_version,
        "Iptc4xmpExt:AIPromptInformation": provenance.prompt,
    }
    readable = {key: quoteattr(NOT_IN_XML.sub(chr(0xFFFD), value)) for key, value in values.items()}
    attributes = "".join(f" {key}={value}" for key, value in readable.items())
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/"'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        f'{attributes}/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
    )
