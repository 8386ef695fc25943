"""Foreign bytes in, a square RGB picture out: or a reason. Nothing here trusts a name, a header or a length.

A picture that is already what is asked for keeps its bytes, so that nothing is lost and little is computed.
"""

import hashlib
import io
import os
import re
import stat
import struct
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from salon.data.ingest.quarantine import Reason, Rejection
from salon.params.sources import CaptionedParams

# format -> the extensions that may name it; what is not here is not decoded at all
FORMATS = {
    "PNG": ("png", "apng"),
    "JPEG": ("jpg", "jpeg", "jpe", "jfif"),
    "WEBP": ("webp",),
    "GIF": ("gif",),
    "BMP": ("bmp", "dib"),
    "TIFF": ("tif", "tiff"),
}
FORMAT_OF = {extension: name for name, extensions in FORMATS.items() for extension in extensions}
# pictures that people have and that are not read: named, so that they do not vanish
OTHER_EXTENSIONS = frozenset((
    "avif", "heic", "heif", "jp2", "j2k", "jxl", "svg", "psd", "ico", "tga", "ppm", "pgm", "pbm", "exr",
    "hdr",
))  # fmt: skip
PICTURE_EXTENSIONS = OTHER_EXTENSIONS | FORMAT_OF.keys()
STORED = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}  # what may be kept as it is
ORIENTED = {"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"}  # where formats keep the orientation
PHASH_SIDE = 32
PHASH_BITS = 8
_DCT = 2 * np.cos(  # (8, 32): the lowest frequencies of DCT-II
    np.pi / PHASH_SIDE * np.outer(np.arange(PHASH_BITS), np.arange(PHASH_SIDE) + 0.5)
)


@dataclass(frozen=True)
class ByteRange:
    """A picture inside an uncompressed archive."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True)
class EncodedImage:
    """An encoded square picture, measured."""

    data: bytes
    extension: str
    pixels: UInt8[np.ndarray, "s s 3"]

    @property
    def digest(self) -> bytes:
        """16 bytes: equal for two encodings of one picture."""
        return hashlib.blake2b(self.pixels.tobytes(), digest_size=16).digest()


def read_bytes(place: Path | ByteRange | bytes, *, max_bytes: int) -> bytes | Rejection:
    """The bytes of a picture; no link, pipe or device is opened, and no file that is too long."""
    data = place if isinstance(place, bytes) else _read_file(place, max_bytes)
    if isinstance(data, Rejection):
        return data
    if not data:
        return Rejection(Reason.EMPTY_FILE)
    if len(data) > max_bytes:
        return Rejection(Reason.TOO_MANY_BYTES, f"{len(data)} bytes, more than {max_bytes}")
    return data


def _read_file(place: Path | ByteRange, max_bytes: int) -> bytes | Rejection:
    path = place.path if isinstance(place, ByteRange) else place
    # opening a pipe would wait for ever; and a link made since the path was checked is not followed
    flags = sum(getattr(os, name, 0) for name in ("O_RDONLY", "O_NONBLOCK", "O_NOFOLLOW", "O_BINARY"))
    try:
        with open(path, "rb", opener=lambda name, _: os.open(name, flags)) as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                return Rejection(Reason.NOT_A_FILE)
            size = place.size if isinstance(place, ByteRange) else facts.st_size
            if size > max_bytes:
                return Rejection(Reason.TOO_MANY_BYTES, f"{size} bytes, more than {max_bytes}")
            file.seek(place.offset if isinstance(place, ByteRange) else 0)
            return file.read(size)
    except FileNotFoundError:
        return Rejection(Reason.NO_PICTURE, "the file does not exist")
    except IsADirectoryError:
        return Rejection(Reason.NOT_A_FILE)
    except (OSError, ValueError) as error:
        return Rejection(Reason.UNREADABLE, getattr(error, "strerror", None) or str(error))


def prepare_picture(data: bytes, *, extension: str, settings: CaptionedParams) -> EncodedImage | Rejection:
    """Decode, turn upright, flatten, fit to a square and encode.

    Args:
        extension: What the picture's name claims, without the dot; empty where nothing is claimed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of what is refused or mended here
            return _prepare(data, extension.lower(), settings)
    except Image.DecompressionBombError as error:
        return Rejection(Reason.TOO_MANY_PIXELS, str(error))
    except UnidentifiedImageError:
        return Rejection(Reason.NOT_A_PICTURE, f"begins with {data[:8].hex(' ')}")
    except Exception as error:  # hostile bytes make Pillow raise nearly anything
        text = re.sub(r" ?<_io.BytesIO.*?>", "", f"{type(error).__name__}: {error}")
        short = re.search(r"truncated|not enough|unexpected end|cannot read this|Truncated", text)
        return Rejection(Reason.TRUNCATED if short else Reason.UNDECODABLE, text)


def _prepare(data: bytes, extension: str, settings: CaptionedParams) -> EncodedImage | Rejection:
    with Image.open(io.BytesIO(data), formats=list(FORMATS)) as image:
        width, height = image.size
        if width * height > settings.max_pixels:
            return Rejection(Reason.TOO_MANY_PIXELS, f"{width}x{height}")
        if min(width, height) < settings.min_side:
            return Rejection(Reason.TOO_SMALL, f"{width}x{height}")
        name = image.format or ""
        claimed = FORMAT_OF.get(extension)
        if extension and claimed != name and not settings.allow_mislabelled:
            return Rejection(Reason.MISLABELLED, f"named .{extension}, the bytes are {name}")
        side = settings.image_size
        if name == "JPEG":
            # decoded at a half, a quarter or an eighth where that is still large enough
            image.draft("RGB", (2 * side, 2 * side))
        image.load()
        as_it_is = _is_stored_as_asked(image, name, data, side)
        if name == "TIFF" or ORIENTED & image.info.keys():
            # turned as its EXIF orientation says; a broken EXIF block says nothing
            with suppress(ValueError, TypeError, KeyError, SyntaxError, OverflowError, OSError, struct.error):
                ImageOps.exif_transpose(image, in_place=True)
        flat = _flatten(image, settings.background)
        if isinstance(flat, Rejection):
            return flat
    fitted = flat if flat.size == (side, side) else _fit(flat, settings)
    pixels = np.frombuffer(fitted.tobytes(), dtype=np.uint8).reshape(side, side, 3)
    if as_it_is:
        return EncodedImage(data, STORED[name], pixels)
    buffer = io.BytesIO()
    fitted.save(buffer, "PNG")
    return EncodedImage(buffer.getvalue(), "png", pixels)


def _is_stored_as_asked(image: Image.Image, name: str, data: bytes, side: int) -> bool:
    """Whether the bytes can stay: the right size and mode, one frame, and nothing beside the pixels."""
    extras = {"exif", "icc_profile", "transparency", "xmp", "photoshop", "comment", "XML:com.adobe.xmp"}
    return (
        name in STORED
        and image.size == (side, side)
        and image.mode == "RGB"
        and getattr(image, "n_frames", 1) == 1
        and not extras & image.info.keys()
        and not getattr(image, "text", None)
        and len(data) <= 4 * side * side + 4096  # more than the pixels need: something is hidden behind them
    )


def _flatten(image: Image.Image, background: tuple[int, int, int]) -> Image.Image | Rejection:
    """RGB; transparent pixels show the background, 16 bits become 8."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        values = np.asarray(image)
        if values.min(initial=0) < 0 or values.max(initial=0) > 0xFFFF:
            return Rejection(Reason.UNKNOWN_RANGE, f"values from {values.min()} to {values.max()}")
        grey = (values.astype(np.uint32) * 255 + 32767) // 65535  # Pillow's own conversion cuts off at 255
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        return Rejection(Reason.UNKNOWN_RANGE, "floating point")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        # `La` and `RGBa` convert through their own opaque twins
        straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode)
        image = (image.convert(straight) if straight else image).convert("RGBA")
        canvas = Image.new("RGBA", image.size, (*background, 255))
        return Image.alpha_composite(canvas, image).convert("RGB")
    return image.convert("RGB")


def _fit(image: Image.Image, settings: CaptionedParams) -> Image.Image:
    side = (settings.image_size, settings.image_size)
    method = Image.Resampling.LANCZOS if min(image.size) >= settings.image_size else Image.Resampling.BICUBIC
    if settings.fit == "crop":
        return ImageOps.fit(image, side, method)
    scale = settings.image_size / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    small = image.resize((width, height), method, reducing_gap=3.0)
    canvas = Image.new("RGB", side, settings.background)
    canvas.paste(small, ((side[0] - small.width) // 2, (side[1] - small.height) // 2))
    return canvas


def perceptual_hashes(pictures: list[UInt8[np.ndarray, "s s 3"]]) -> list[str]:
    """16 hexadecimal digits each: which of the lowest 8x8 frequencies of the luma lie above their median.

    The `phash` of the library ImageHash, but for mirrored pictures, where that one keeps the signs of noise.
    """
    # as Pillow converts to "L": ITU-R 601-2 in fixed point
    weights = np.array([19595, 38470, 7471], dtype=np.uint32)
    luma = ((np.stack(pictures) @ weights + 0x8000) >> 16).astype(np.uint8)  # (n, s, s)
    if luma.shape[1] != PHASH_SIDE:
        size = (PHASH_SIDE, PHASH_SIDE)
        small = [Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS) for picture in luma]
        luma = np.stack([np.asarray(picture) for picture in small])  # (n, 32, 32)
    low: Float[np.ndarray, "n 8 8"] = _DCT @ luma.astype(np.float64) @ _DCT.T
    low = np.round(low, 6)  # a flat picture has frequencies of 1e-13, whose sign means nothing
    bits = low > np.median(low, axis=(1, 2), keepdims=True)
    return [row.tobytes().hex() for row in np.packbits(bits.reshape(len(bits), -1), axis=1)]
