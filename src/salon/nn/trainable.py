"""What the training loop asks of everything that it trains: methods, codecs, towers and judges."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Losses:
    """What one optimizer minimises in one step, and its parts for the log."""

    total: Float[Tensor, ""]
    terms: Mapping[str, Tensor] = field(default_factory=dict)


class Trainable(nn.Module, ABC):
    """A module that knows what it minimises. Losses are pure: a batch and a generator in, tensors out."""

    objectives: ClassVar[tuple[str, ...]] = ("model",)
    """What is minimised in turn within one step, each by its own optimizer."""

    held_out_objectives: ClassVar[tuple[str, ...]] = ("model",)
    """Objectives whose value on held-out pictures says something; a game against an adversary has none."""

    replayable: ClassVar[bool] = False
    """Whether `losses` does the same work on the device in every step, changes nothing but gradients, and
    never has the CPU wait for a result: then a GPU may record it once (`salon.training.cuda_graph`)."""

    noise_stride: ClassVar[int] = 1
    """How far apart the seeds of two steps' noise lie."""

    def parameters_of(self, objective: str) -> list[nn.Parameter]:
        """The parameters that `objective` trains."""
        return list(self.parameters())

    def before_step(self, progress: float) -> None:
        """Told how much of the training, 0 to 1, is done."""
        return

    @abstractmethod
    def losses(self, batch: Any, *, objective: str, generator: torch.Generator) -> Losses:
        """The loss of `objective` on one batch, in the form in which its `BatchSource` gives them."""

    def warnings(self, averages: Mapping[str, float]) -> list[str]:
        """What is wrong with a training whose loss terms average to these; empty when nothing is."""
        return []
