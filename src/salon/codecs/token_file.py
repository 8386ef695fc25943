"""Token files: pictures as the codes of a learned codec, packed bit by bit.

    magic 8 | version 1 | sha256 of the codec's weights 32 | pixels per code 1 | bits per code 1 | pictures 4
    for each picture: width 2 | height 2 | bytes of its name 2 | name in UTF-8
    codes of all pictures, row by row, `bits per code` bits each | sha256 of all that stands before 32

Numbers are little-endian. Whatever such a file says is checked before it is believed.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from salon.codecs.base import DiscreteCodec
from salon.errors import SalonError

MAGIC = b"SALONTOK"
VERSION = 1
HEADER = struct.Struct("<8sB32sBBI")
PICTURE = struct.Struct("<HHH")
CHECKSUM_BYTES = 32
MAX_SIDE = 2**16 - 1  # pixels, and bytes of a name: a header has two bytes for each


@dataclass(frozen=True)
class TokenPicture:
    """One picture as codes."""

    name: str
    width: int
    height: int
    codes: Int[Tensor, "rows columns"]


@dataclass(frozen=True)
class TokenFile:
    """What a token file holds."""

    codec_sha256: str
    pictures: list[TokenPicture]


def tokenize(codec: DiscreteCodec, image: Float[Tensor, "3 h w"], *, name: str) -> TokenPicture:
    """Codes of one picture; its right and lower edges are repeated until it divides into codes.

    Raises:
        SalonError: the picture is too large for a token file.
    """
    height, width = image.shape[1:]
    if max(height, width) > MAX_SIDE:
        raise SalonError(f"{name} has {width}x{height} pixels: at most {MAX_SIDE} along a side")
    missing = (0, -width % codec.downsampling, 0, -height % codec.downsampling)
    padded = F.pad(image[None], missing, mode="replicate")
    return TokenPicture(name, width, height, codec.encode_grid(padded)[0].cpu())


@torch.no_grad()
def detokenize(codec: DiscreteCodec, picture: TokenPicture) -> Float[Tensor, "3 h w"]:
    """The picture that codes stand for, in its own size.

    Raises:
        SalonError: the codec has no such codes.
    """
    if int(picture.codes.max()) >= codec.codebook_size:
        raise SalonError(f"{picture.name} has codes that the codec does not know")
    return codec.decode_grid(picture.codes[None])[0, :, : picture.height, : picture.width]


def pack(pictures: Sequence[TokenPicture], *, codec: DiscreteCodec, digest: str) -> bytes:
    """The bytes of a token file; `digest` is the codec's `codec_sha256`.

    Raises:
        SalonError: two pictures have the same name, or a name is too long.
    """
    names = [picture.name for picture in pictures]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise SalonError(f"several pictures are called {', '.join(doubled)}: give them different names")
    bits = codec.bits_per_code
    parts = [HEADER.pack(MAGIC, VERSION, bytes.fromhex(digest), codec.downsampling, bits, len(pictures))]
    for picture in pictures:
        name = picture.name.encode()
        if len(name) > MAX_SIDE:
            raise SalonError(f"the name {picture.name[:40]!r}... is too long for a token file")
        parts += [PICTURE.pack(picture.width, picture.height, len(name)), name]
    codes = torch.cat([picture.codes.flatten() for picture in pictures])
    body = b"".join(parts) + pack_bits(codes, bits)
    return body + hashlib.sha256(body).digest()


def unpack(data: bytes, *, source: str) -> TokenFile:
    """Read the bytes of a token file; errors name it `source`.

    Raises:
        SalonError: it is no token file, was damaged or cut short, or contradicts itself.
    """
    if not data.startswith(MAGIC):
        raise SalonError(f"{source} is no token file of Salon")
    body = data[:-CHECKSUM_BYTES]
    if hashlib.sha256(body).digest() != data[-CHECKSUM_BYTES:]:
        raise SalonError(f"{source} was damaged or cut short: its checksum does not fit")
    try:
        _, version, digest, downsampling, bits, count = HEADER.unpack_from(body)
        if version != VERSION:
            raise SalonError(f"{source} is a token file of version {version}; this Salon reads {VERSION}")
        headers, position = [], HEADER.size
        for _ in range(count):
            width, height, name_bytes = PICTURE.unpack_from(body, position)
            position += PICTURE.size + name_bytes
            headers.append((_plain_name(body[position - name_bytes : position], source), width, height))
    except (struct.error, UnicodeDecodeError):
        raise SalonError(f"{source} is malformed: its headers make no sense") from None
    if not (downsampling and 0 < bits <= 16 and all(width and height for _, width, height in headers)):
        raise SalonError(f"{source} is malformed: it has pictures without pixels or codes without bits")
    grids = [(-(-height // downsampling), -(-width // downsampling)) for _, width, height in headers]
    total = sum(rows * columns for rows, columns in grids)
    if len(body) - position != -(-total * bits // 8):
        raise SalonError(f"{source} is malformed: it has more or fewer codes than its pictures need")
    if len({name for name, _, _ in headers}) != len(headers):
        raise SalonError(f"{source} is malformed: two of its pictures have the same name")
    codes = unpack_bits(body[position:], bits, total).split([rows * columns for rows, columns in grids])
    parts = zip(headers, grids, codes, strict=True)
    return TokenFile(digest.hex(), [TokenPicture(*header, part.view(grid)) for header, grid, part in parts])


def pack_bits(codes: Int[Tensor, "n"], bits: int) -> bytes:
    """Codes in `bits` bits each, the lowest bit first; the last byte is filled up with zeros."""
    digits = (codes.numpy()[:, None] >> np.arange(bits)) & 1  # (n, bits)
    return np.packbits(digits.astype(np.uint8).ravel(), bitorder="little").tobytes()


def unpack_bits(data: bytes, bits: int, count: int) -> Int[Tensor, "n"]:
    """What `pack_bits` packed."""
    digits = np.unpackbits(np.frombuffer(data, np.uint8), count=count * bits, bitorder="little")
    return torch.from_numpy(digits.reshape(count, bits).astype(np.int64) @ (1 << np.arange(bits)))


def _plain_name(encoded: bytes, source: str) -> str:
    """A file name that stays in the folder it is written to."""
    name = encoded.decode()
    if not name.isprintable() or name in ("", ".", "..") or set(name) & set("/\\:"):
        raise SalonError(f"{source} is malformed: {name!r} is no file name")
    return name
