"""The training set where a step can reach it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from salon.data.loader import CaptionedImages, to_float
from salon.text.states import TextStateCache, TextStates

RESIDENT_SHARE = 0.25  # of a GPU's free memory that the training set may take; the rest is for training


@dataclass(frozen=True)
class Batch:
    """What `Method.losses` reads of some rows."""

    images: Float[Tensor, "b 3 h w"]
    text: TextStates
    prepared: Tensor | None


class Feed:
    """Pictures, text states and what a method prepared: on the training's device where they fit there.

    Copied row by row they would have a GPU wait for the CPU in every step.
    """

    def __init__(
        self,
        data: CaptionedImages,
        cache: TextStateCache,
        prepared: Tensor | None,
        *,
        device: torch.device,
    ) -> None:
        captions, states = cache.indices(data.captions), cache.states
        tensors = [data.images, captions, *vars(states).values(), *([] if prepared is None else [prepared])]
        self.is_resident = sum(each.nbytes for each in tensors) <= RESIDENT_SHARE * _free_bytes(device)
        """Whether a batch is made on the device alone."""
        self.device = device
        self._home = device if self.is_resident else torch.device("cpu")
        self._images, self._captions = data.images.to(self._home), captions.to(self._home)
        self._states = states.to(self._home)
        self._prepared = None if prepared is None else prepared.to(self._home)

    def batch(self, rows: Int[Tensor, "b"]) -> Batch:
        """These rows, on the device."""
        rows = rows.to(self._home, non_blocking=True)
        return Batch(
            images=to_float(self._images[rows].to(self.device)),
            text=self._states[self._captions[rows]].to(self.device),
            prepared=None if self._prepared is None else self._prepared[rows].to(self.device),
        )


def _free_bytes(device: torch.device) -> float:
    """Of the GPU; a CPU's memory holds the training set already."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
