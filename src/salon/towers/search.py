"""Search by text: the pictures whose embeddings are nearest to the query's."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from salon.fingerprint import fingerprint
from salon.images import to_float
from salon.towers.tower import ClipTower
from salon.weights import load_tensors, save_tensors


@dataclass(frozen=True)
class Hit:
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


@dataclass(frozen=True)
class EmbeddingCache:
    """Embeddings on disk under a name that changes with the towers and with the data."""

    path: Path

    @classmethod
    def locate(cls, folder: Path, split: str, *, inputs: Iterable[Path]) -> "EmbeddingCache":
        """The cache that belongs to the bytes of `inputs`."""
        key = fingerprint(split, files=inputs)
        return cls(folder / f"{split}-{key}.safetensors")

    def load(self) -> Float[Tensor, "n e"] | None:
        """What was saved, or `None`."""
        return load_tensors(self.path)["embeddings"] if self.path.is_file() else None

    def save(self, embeddings: Float[Tensor, "n e"]) -> None:
        """Written whole or not at all."""
        save_tensors(self.path, {"embeddings": embeddings})
