"""The ingested rows: splits decoded once, and what their columns say without decoding anything."""

import io
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from salon.data.shards import read_shard, read_tables, shard_paths
from salon.errors import SalonError
from salon.paths import SPLITS

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

    def take(self, rows: Sequence[int]) -> "CaptionedImages":
        """These rows."""
        return CaptionedImages(
            ids=[self.ids[i] for i in rows],
            images=self.images[list(rows)],
            captions=[self.captions[i] for i in rows],
            langs=[self.langs[i] for i in rows],
            attributes=[self.attributes[i] for i in rows],
        )


class ForbiddenSplitError(SalonError):
    """Something that chooses asked for a split by which its choice will be judged."""


class Dataset:
    """The splits below `data/interim/`, each decoded when it is first asked for and then kept."""

    def __init__(self, folder: Path, *, allowed: Collection[str] = SPLITS) -> None:
        self.folder, self._allowed = folder, allowed
        self._decoded: dict[str, CaptionedImages] = {}

    def only(self, *splits: str) -> "Dataset":
        """The same for code that chooses: other splits than these are an error, whatever is asked of them."""
        for split in splits:
            self._check(split)
        return Dataset(self.folder, allowed=splits)

    def shards(self) -> list[Path]:
        """The files of the splits that may be read."""
        return [path for split in self._allowed for path in shard_paths(self.folder, split)]

    def __getitem__(self, split: str) -> CaptionedImages:
        """
        Raises:
            SalonError: the split is missing or must not be read, or its pictures are not all of one size.
        """
        if split not in self._decoded:
            self._decoded[split] = self._decode(split)
        return self._decoded[split]

    def ids(self, split: str) -> list[str]:
        """The ids of a split; nothing is decoded."""
        return self._column(split, "id")

    def captions(self, split: str) -> list[str]:
        """The captions of a split; nothing is decoded."""
        return self._column(split, "caption")

    def attributes(self, split: str) -> list[dict[str, str]]:
        """The attributes of each row of a split; nothing is decoded."""
        return [dict(pairs) for pairs in self._column(split, "attributes")]

    def factors(self, split: str) -> pd.DataFrame:
        """What a renderer drew at random for each row of a split, a column each; none of pictures found."""
        return pd.DataFrame([dict(pairs) for pairs in self._column(split, "factors")])

    @cached_property
    def attribute_names(self) -> list[str]:
        """What the attributes of the training rows are called, as its first row has them."""
        self._check("train")
        shard = read_shard(shard_paths(self.folder, "train")[0], columns=["attributes"])
        return sorted(name for row in shard["attributes"].slice(0, 1).to_pylist() for name, _ in row)

    @property
    def has_attributes(self) -> bool:
        """Whether rows say what their pictures show, beside the caption."""
        return bool(self.attribute_names)

    def _decode(self, split: str) -> CaptionedImages:
        """All pictures of a split; one without rows has pictures of the size of the others."""
        self._check(split)
        columns = ["id", "image", "caption", "lang", "attributes"]
        table = read_tables(self.folder, [split], columns=columns)
        encoded = table["image"].combine_chunks().field("bytes")
        with ThreadPoolExecutor() as pool:  # PIL decodes outside the GIL
            # many at a time: handing over one small picture costs more than decoding it
            parts = [
                encoded[start : start + DECODED_AT_ONCE] for start in range(0, len(encoded), DECODED_AT_ONCE)
            ]
            arrays = [array for part in pool.map(_decode, parts) for array in part]
        shapes = {array.shape for array in arrays} or {_shape_of_any(self.folder, self._allowed)}
        if len(shapes) != 1:
            raise SalonError(
                f"split {split!r} in {self.folder} mixes picture sizes {sorted(shapes)}: set one size at "
                "ingestion"
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

    def _check(self, split: str) -> None:
        if split not in self._allowed:
            known = " and ".join(self._allowed)
            raise ForbiddenSplitError(f"split {split!r} was asked for where only {known} may be looked at")

    def _column(self, split: str, name: str) -> list[Any]:
        self._check(split)
        return read_tables(self.folder, [split], columns=[name])[name].to_pylist()


def _shape_of_any(folder: Path, splits: Collection[str]) -> tuple[int, int, int]:
    """Height, width and channels of the first picture of any split."""
    sizes = read_tables(folder, splits, columns=["width", "height"]).slice(0, 1).to_pylist()
    if not sizes:
        raise SalonError(f"{folder} holds no row: run the ingest stage with a source that has some")
    return sizes[0]["height"], sizes[0]["width"], 3


def _decode(encoded: pa.Array) -> list[np.ndarray]:
    buffers = (value.as_buffer() for value in encoded)
    return [np.asarray(Image.open(io.BytesIO(buffer)).convert("RGB")) for buffer in buffers]
