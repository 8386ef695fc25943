"""Training batches: the steps that are left, and the part that is held out."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from salon.data.batches import BatchSource
from salon.errors import SalonError

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
