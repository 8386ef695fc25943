"""Training batches: which rows each step takes, and the data where a step can reach them."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from salon.data.dataset import CaptionedImages
from salon.errors import SalonError
from salon.images import to_float
from salon.towers.states import Batch, TextStateCache

RESIDENT_SHARE = 0.25  # of a GPU's free memory that the training set may take; the rest is for training


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


class BatchSource:
    """Pictures, text states and what a method precomputed: on the training's device where they fit there.

    Copied row by row they would have a GPU wait for the CPU in every step.
    """

    def __init__(
        self,
        data: CaptionedImages,
        cache: TextStateCache,
        precomputed: Tensor | None,
        *,
        device: torch.device,
    ) -> None:
        captions, states = cache.indices(data.captions), cache.states
        tensors = [
            data.images,
            captions,
            *vars(states).values(),
            *([] if precomputed is None else [precomputed]),
        ]
        self.is_resident = sum(each.nbytes for each in tensors) <= RESIDENT_SHARE * _free_bytes(device)
        """Whether a batch is made on the device alone."""
        self.device = device
        self._home = device if self.is_resident else torch.device("cpu")
        self._images, self._captions = data.images.to(self._home), captions.to(self._home)
        self._states = states.to(self._home)
        self._precomputed = None if precomputed is None else precomputed.to(self._home)

    def batch(self, rows: Int[Tensor, "b"]) -> Batch:
        """These rows, on the device."""
        rows = rows.to(self._home, non_blocking=True)
        return Batch(
            images=to_float(self._images[rows].to(self.device)),
            text=self._states[self._captions[rows]].to(self.device),
            precomputed=None if self._precomputed is None else self._precomputed[rows].to(self.device),
        )


def _free_bytes(device: torch.device) -> float:
    """Of the GPU; a CPU's memory holds the training set already."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
