"""Splits in memory, and training batches whose content is a function of (seed, step) alone."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from salon.data.shards import read_tables
from salon.errors import SalonError

DECODED_AT_ONCE = 256  # pictures


def to_float(images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 h w"]:
    """uint8 in 0..255 to float in [-1, 1]."""
    return images.float().div_(127.5).sub_(1)


def to_uint8(images: Float[Tensor, "b 3 h w"]) -> UInt8[Tensor, "b 3 h w"]:
    """Float in [-1, 1] to uint8 in 0..255; values outside are clamped."""
    return images.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


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


def batch_indices(
    step: int, *, size: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
) -> Int[Tensor, "b"]:
    """Rows of the `step`-th batch: epochs are permutations, and a batch may span two of them.

    Stateless, so that a resumed run sees exactly the batches that it would have seen. With several processes
    each takes every `world_size`-th row of the same global batch.
    """
    positions = torch.arange(step * batch_size, (step + 1) * batch_size)
    rows = [
        _permutation(seed, int(epoch), size)[positions[positions // size == epoch] % size]
        for epoch in (positions // size).unique()
    ]
    return torch.cat(rows)[rank::world_size]


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> Tensor:
    state = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    return torch.randperm(size, generator=torch.Generator().manual_seed(state))


class TrainingBatches:
    """The batches from `start_step` up to `total_steps`, as row indices with their step number.

    `len` is the number of all steps, done ones included: Lightning counts batches from where a checkpoint
    stopped.
    """

    def __init__(
        self,
        *,
        size: int,
        batch_size: int,
        total_steps: int,
        seed: int,
        start_step: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            raise SalonError(
                f"batch_size {batch_size} cannot be shared equally by {world_size} devices: change the "
                "method's batch_size or training.devices"
            )
        self.size = size
        self.batch_size = batch_size
        self.total_steps = total_steps
        self.seed = seed
        self.start_step = start_step
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return self.total_steps

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        for step in range(self.start_step, self.total_steps):
            yield (
                step,
                batch_indices(
                    step,
                    size=self.size,
                    batch_size=self.batch_size,
                    seed=self.seed,
                    rank=self.rank,
                    world_size=self.world_size,
                ),
            )
