"""A split in memory, decoded."""

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from salon.data.shards import read_tables
from salon.errors import SalonError

DECODED_AT_ONCE = 256  # pictures


@dataclass(frozen=True)
class CaptionedImages:
    """One split, decoded."""

    ids: list[str]
    images: UInt8[Tensor, "n 3 h w"]
    captions: list[str]
    langs: list[str]
    attributes: list[dict[str, str]]

    def __len__(self) -> int:
        return len(self.captions)


def load_split(folder: Path, split: str) -> CaptionedImages:
    """Decode all pictures of a split; one without rows has pictures of the size of the others.

    Raises:
        SalonError: the split is missing, or its pictures are not all of one size.
    """
    columns = ["id", "image", "caption", "lang", "attributes"]
    table = read_tables(folder, [split], columns=columns)
    encoded = table["image"].combine_chunks().field("bytes")
    with ThreadPoolExecutor() as pool:  # PIL decodes outside the GIL
        # many at a time: handing over one small picture costs more than decoding it
        parts = [
            encoded[start : start + DECODED_AT_ONCE] for start in range(0, len(encoded), DECODED_AT_ONCE)
        ]
        arrays = [array for part in pool.map(_decode_all, parts) for array in part]
    shapes = {array.shape for array in arrays} or {_shape_of_any(folder)}
    if len(shapes) != 1:
        raise SalonError(
            f"split {split!r} in {folder} mixes picture sizes {sorted(shapes)}: set one size at ingestion"
        )
    return CaptionedImages(
        ids=table["id"].to_pylist(),
        images=torch.from_numpy(np.array(arrays, dtype=np.uint8).reshape(-1, *shapes.pop()))
        .permute(0, 3, 1, 2)
        .contiguous(),
        captions=table["caption"].to_pylist(),
        langs=table["lang"].to_pylist(),
        attributes=[dict(pairs) for pairs in table["attributes"].to_pylist()],
    )


def _shape_of_any(folder: Path) -> tuple[int, int, int]:
    """Height, width and channels of the first picture of any split."""
    sizes = read_tables(folder, columns=["width", "height"]).slice(0, 1).to_pylist()
    if not sizes:
        raise SalonError(f"{folder} holds no row: run the ingest stage with a source that has some")
    return sizes[0]["height"], sizes[0]["width"], 3


def _decode_all(encoded: pa.Array) -> list[np.ndarray]:
    return [_decode(value.as_buffer()) for value in encoded]


def _decode(buffer: object) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(buffer)).convert("RGB"))  # type: ignore[arg-type]
