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
        self.device = device
        self._captions = cache.indices(data.captions).to(device)
        self._states = cache.states.to(device)  # of distinct captions: far smaller than the pictures
        parts = [data.images] if prepared is None else [data.images, prepared]
        self.is_resident = sum(part.nbytes for part in parts) <= RESIDENT_SHARE * _free_bytes(device)
        """Whether a batch is made on the device alone."""
        self._images, self._prepared = data.images, prepared
        if self.is_resident:
            self._images = data.images.to(device)
            self._prepared = None if prepared is None else prepared.to(device)

    def batch(self, rows: Int[Tensor, "b"]) -> Batch:
        """These rows, on the device."""
        here = rows.to(self.device, non_blocking=True)
        there = here if self.is_resident else rows.cpu()
        return Batch(
            images=to_float(self._images[there].to(self.device)),
            text=self._states[self._captions[here]],
            prepared=None if self._prepared is None else self._prepared[there].to(self.device),
        )


def _free_bytes(device: torch.device) -> float:
    """Of the GPU; a CPU's memory holds the training set already."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
