"""Pictures into a token file and back, with a learned codec."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from salon.codecs import DiscreteCodec, load_codec
from salon.codecs.token_file import detokenize, pack, tokenize, unpack
from salon.errors import SalonError
from salon.files import file_sha256, whole_file
from salon.images import to_float, to_uint8
from salon.judging.reconstruction import psnr
from salon.paths import Paths
from salon.weights import WEIGHTS


def compress(paths: Paths, pictures: Sequence[Path], *, out: Path, codec_name: str) -> None:
    """Write the codes of `pictures` to `out`.

    Raises:
        SalonError: a picture cannot be read, or there is no such codec.
    """
    folder = paths.codec(codec_name)
    codec = _discrete(folder)
    tokens, ratios = [], []
    for path in pictures:
        image = _read(path)
        tokens.append(tokenize(codec, to_float(image), name=path.name))
        decoded = to_uint8(detokenize(codec, tokens[-1]))
        ratios.append(psnr(decoded[None], image[None]).item())
    data = pack(tokens, codec=codec, digest=file_sha256(folder / WEIGHTS))
    with whole_file(out) as part:
        part.write_bytes(data)
    before = sum(path.stat().st_size for path in pictures)
    pixels = sum(token.width * token.height for token in tokens)
    print(
        f"{len(tokens)} pictures, {before} bytes -> {len(data)} bytes ({8 * len(data) / pixels:.2f} bits per "
        f"pixel), PSNR {sum(ratios) / len(ratios):.1f} dB: {out}"
    )


def decompress(paths: Paths, source: Path, *, out: Path) -> None:
    """Write the pictures of a token file into folder `out`, as PNG.

    Raises:
        SalonError: the file is damaged, its codec is not here, or a picture would overwrite a file.
    """
    if not source.is_file():
        raise SalonError(f"{source} does not exist")
    tokens = unpack(source.read_bytes(), source=str(source))
    codec = _codec_of(paths, tokens.codec_sha256, source=source)
    targets = [out / Path(picture.name).with_suffix(".png").name for picture in tokens.pictures]
    if len(set(targets)) < len(targets):  # a.jpg and a.webp
        targets = [out / f"{picture.name}.png" for picture in tokens.pictures]
    if taken := [str(target) for target in targets if target.exists()]:
        raise SalonError(f"{', '.join(taken[:3])} would be overwritten: choose another folder")
    out.mkdir(parents=True, exist_ok=True)
    for picture, target in zip(tokens.pictures, targets, strict=True):
        pixels = to_uint8(detokenize(codec, picture))
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(target)
    print(f"{len(targets)} pictures in {out}")


def _read(path: Path) -> torch.Tensor:
    try:
        with Image.open(path) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    except (OSError, Image.DecompressionBombError) as error:
        raise SalonError(f"{path} cannot be read as a picture: {error}") from None


def _discrete(folder: Path) -> DiscreteCodec:
    codec = load_codec(folder)
    if not isinstance(codec, DiscreteCodec):
        raise SalonError(f"codec {folder.name!r} has no codes to store: use a trained one")
    return codec


def _codec_of(paths: Paths, digest: str, *, source: Path) -> DiscreteCodec:
    folders = sorted(path.parent for path in paths.codecs.glob(f"*/{WEIGHTS}"))
    for folder in folders:
        if file_sha256(folder / WEIGHTS) == digest:
            return _discrete(folder)
    raise SalonError(
        f"{source} was made with another codec (weights sha256 {digest[:16]}...); here are "
        f"{', '.join(folder.name for folder in folders) or 'none'}: restore the weights it was made with"
    )
