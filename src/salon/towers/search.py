"""Search by text: the pictures whose embeddings are nearest to the query's."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from salon.fingerprint import fingerprint
from salon.images import to_float
from salon.towers.tower import ClipTower
from salon.weights import load_tensors, save_tensors


class Hit(NamedTuple):
    """One picture that a search found."""

    row: int
    """Its row in the split."""
    similarity: float
    """Cosine of picture and query, -1 to 1."""


def nearest(embeddings: Float[Tensor, "n e"], query: Float[Tensor, "e"], *, top: int) -> list[Hit]:
    """The `top` best rows, best first. All vectors are of unit length."""
    similarity, rows = (embeddings @ query).topk(min(top, len(embeddings)))
    return [Hit(row, value) for row, value in zip(rows.tolist(), similarity.tolist(), strict=True)]


def embed_pictures(
    tower: ClipTower, images: UInt8[Tensor, "n 3 h w"], *, batch_size: int = 256
) -> Float[Tensor, "n e"]:
    """Embeddings of all pictures, batch by batch."""
    return torch.cat([tower.encode_images(to_float(part)).cpu() for part in images.split(batch_size)])


def kept_embeddings(
    folder: Path, split: str, *, inputs: Iterable[Path], embed: Callable[[], Float[Tensor, "n e"]]
) -> Float[Tensor, "n e"]:
    """What `embed` gave the first time for the bytes of `inputs`, the towers and the data."""
    file = folder / f"{split}-{fingerprint(split, files=inputs)}.safetensors"
    if not file.is_file():
        save_tensors(file, {"embeddings": embed()})
    return load_tensors(file)["embeddings"]
