"""A method at work: pictures of prompts as a user would get them, each from a seed fixed beforehand."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from salon.data.dataset import CaptionedImages
from salon.images import to_uint8
from salon.methods.base import Method
from salon.nn.products import batch_invariant
from salon.params import EvaluateParams
from salon.seeding import seeded_generators
from salon.towers.states import TextStateCache, TextStates


class BatchSampler:
    """Draws what the jury looks at."""

    def __init__(
        self, method: Method, cache: TextStateCache, settings: EvaluateParams, device: torch.device
    ) -> None:
        self.method, self.cache, self.settings, self.device = method, cache, settings, device

    def states_of(self, prompts: CaptionedImages) -> TextStates:
        """What the text tower made of their captions, on the device."""
        return self.cache.states[self.cache.indices(prompts.captions)].to(self.device)

    def draw(
        self, prompts: CaptionedImages, options: Mapping[str, Any] | None = None, *, repeat: int = 0
    ) -> UInt8[Tensor, "n 3 h w"]:
        """One picture per prompt.

        Args:
            options: Arguments of `Method.sample` that are to differ from the method's own.
            repeat: Number of further pictures of the same prompts; their noise is that of no judged picture.
        """
        states = self.states_of(prompts)
        first = repeat * self.settings.pictures
        parts = []
        for start in range(0, len(prompts), self.settings.batch_size):
            text = states[start : start + self.settings.batch_size]
            generators = seeded_generators(self.settings.seed, len(text), first=first + start)
            with batch_invariant(half=True):  # as they are served
                images = self.method.sample(text, generator=generators, **(options or {}))
            parts.append(to_uint8(images).cpu())
        return torch.cat(parts)
