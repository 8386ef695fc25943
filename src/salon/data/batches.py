"""Batches as a function of seed and step alone, so that a resumed training sees what it would have seen."""

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from salon.images import to_float


def batch_indices(step: int, *, size: int, batch_size: int, seed: int) -> Int[Tensor, "b"]:
    """Rows of the `step`-th batch: epochs are permutations, and a batch may span two of them."""
    positions = torch.arange(step * batch_size, (step + 1) * batch_size)
    rows = [
        _permutation(seed, int(epoch), size)[positions[positions // size == epoch] % size]
        for epoch in (positions // size).unique()
    ]
    return torch.cat(rows)


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, size: int) -> Tensor:
    state = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    return torch.randperm(size, generator=torch.Generator().manual_seed(state))


class BatchSource(ABC):
    """Where batches come from: which rows a step takes, and what a loss reads of them."""

    is_resident = False
    """Whether a batch is made on the device alone."""

    def __init__(self, size: int, *, batch_size: int, seed: int) -> None:
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return self.size

    def to(self, device: torch.device) -> None:
        """Make batches for this device from now on."""
        self.device = device

    def rows(self, step: int) -> Int[Tensor, "b"]:
        """Rows of the `step`-th batch."""
        return batch_indices(step, size=self.size, batch_size=self.batch_size, seed=self.seed)

    @abstractmethod
    def batch(self, rows: Int[Tensor, "b"], *, step: int) -> Any:
        """These rows on the device, as the `step`-th batch of a training has them."""


class ImageBatches(BatchSource):
    """Images alone, float in [-1, 1]."""

    def __init__(self, images: UInt8[Tensor, "n 3 h w"], *, batch_size: int, seed: int) -> None:
        super().__init__(len(images), batch_size=batch_size, seed=seed)
        self.images = images

    def batch(self, rows: Int[Tensor, "b"], *, step: int) -> Tensor:
        return to_float(self.images[rows].to(self.device))
