"""Training batches: the steps that are left, the held-out part, and what a method reads of its rows."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from salon.data.batches import BatchSource
from salon.data.dataset import CaptionedImages
from salon.errors import SalonError
from salon.images import to_float
from salon.methods.base import Batch, Method
from salon.towers.states import TextStateCache

RESIDENT_SHARE = 0.25  # of a GPU's free memory that the training set may take; the rest is for training
PRECOMPUTE_BATCH = 256  # images
CHECKS = 20  # looks at held-out images in the course of one training
# A look costs a forward pass, a third of a step: together they cost less than a fiftieth of the training.
HELD_OUT_SHARE = 0.04
LEAST_HELD_OUT, MOST_HELD_OUT = 8, 256


@dataclass(frozen=True)
class Steps:
    """The batches from `start_step` up to `total_steps`, as row numbers with their step number.

    `len` is the number of all steps, done ones included: Lightning counts batches from where a checkpoint
    stopped. Of several processes each takes every `world_size`-th row of the same global batch.
    """

    source: BatchSource
    total_steps: int
    start_step: int = 0
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        if self.source.batch_size % self.world_size:
            raise SalonError(
                f"batch_size {self.source.batch_size} cannot be shared equally by {self.world_size} devices: "
                "change the method's batch_size or training.devices"
            )

    def __len__(self) -> int:
        return self.total_steps

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        for step in range(self.start_step, self.total_steps):
            yield step, self.source.rows(step)[self.rank :: self.world_size]


@dataclass(frozen=True)
class HeldOut:
    """The same rows of a held-out source at every look, in numbered batches.

    So many that all looks together cost little beside `total_steps` steps.
    """

    source: BatchSource
    total_steps: int
    rank: int = 0
    world_size: int = 1

    @property
    def batches(self) -> tuple[Tensor, ...]:
        """The rows of all processes."""
        most = round(HELD_OUT_SHARE * self.total_steps * self.source.batch_size / CHECKS)
        count = min(max(most, LEAST_HELD_OUT), MOST_HELD_OUT, len(self.source))
        return torch.arange(count // self.world_size * self.world_size).split(self.source.batch_size)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        for number, rows in enumerate(self.batches):
            yield number, rows[self.rank :: self.world_size]


class MethodBatches(BatchSource):
    """Images, text states and what a method precomputed: on the training's device where they fit there.

    Copied row by row they would have a GPU wait for the CPU in every step.
    """

    def __init__(self, method: Method, data: CaptionedImages, cache: TextStateCache, *, seed: int) -> None:
        super().__init__(len(data), batch_size=method.config.batch_size, seed=seed)
        self.method, self.data, self.cache = method, data, cache

    def to(self, device: torch.device) -> None:
        """Frozen networks follow to the device, and precompute there."""
        super().to(device)
        self.method.frozen.to(device)
        precomputed = precompute_all(self.method, self.data.images, device=device)
        captions, states = self.cache.indices(self.data.captions), self.cache.states
        extra = [] if precomputed is None else [precomputed]
        tensors = [self.data.images, captions, *vars(states).values(), *extra]
        self.is_resident = sum(each.nbytes for each in tensors) <= RESIDENT_SHARE * _free_bytes(device)
        self._home = device if self.is_resident else torch.device("cpu")
        self._images, self._captions = self.data.images.to(self._home), captions.to(self._home)
        self._states = states.to(self._home)
        self._precomputed = None if precomputed is None else precomputed.to(self._home)

    def batch(self, rows: Int[Tensor, "b"], *, step: int) -> Batch:
        rows = rows.to(self._home, non_blocking=True)
        return Batch(
            images=to_float(self._images[rows].to(self.device)),
            text=self._states[self._captions[rows]].to(self.device),
            precomputed=None if self._precomputed is None else self._precomputed[rows].to(self.device),
        )


@torch.no_grad()
def precompute_all(
    method: Method, images: Tensor, *, device: torch.device | str, batch_size: int = PRECOMPUTE_BATCH
) -> Tensor | None:
    """`Method.precompute` of every image of a set, uint8 (n, 3, h, w), kept on the CPU."""
    parts = []
    for batch in images.split(batch_size):
        precomputed = method.precompute(to_float(batch.to(device)))
        if precomputed is None:
            return None
        parts.append(precomputed.cpu())
    return torch.cat(parts)


def _free_bytes(device: torch.device) -> float:
    """Of the GPU; a CPU's memory holds the training set already."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
