"""A method at work: pictures of prompts as a user would get them, each from a seed fixed beforehand."""

import statistics
import time

import torch
from jaxtyping import UInt8
from torch import Tensor

from salon.codecs.pixels import PixelCodec
from salon.data.dataset import CaptionedImages
from salon.images import to_float, to_uint8
from salon.judging.memorisation import Channel
from salon.methods.base import Method
from salon.nn.products import batch_invariant
from salon.params import EvaluateParams
from salon.seeding import seeded_generators
from salon.towers.states import TextStateCache, TextStates

WARMUP_CALLS = 1  # the first call allocates


class BatchSampler:
    """Draws what the jury looks at."""

    def __init__(
        self, method: Method, cache: TextStateCache, settings: EvaluateParams, device: torch.device
    ) -> None:
        self.method, self.cache, self.settings, self.device = method, cache, settings, device

    def states_of(self, prompts: CaptionedImages) -> TextStates:
        """What the text tower made of their captions, on the device."""
        return self.cache.states[self.cache.indices(prompts.captions)].to(self.device)

    def draw(self, prompts: CaptionedImages, *, repeat: int = 0) -> UInt8[Tensor, "n 3 h w"]:
        """One picture per prompt.

        Args:
            repeat: Number of further pictures of the same prompts; their noise is that of no judged picture.
        """
        states = self.states_of(prompts)
        first = repeat * self.settings.pictures
        parts = []
        for start in range(0, len(prompts), self.settings.batch_size):
            text = states[start : start + self.settings.batch_size]
            generators = seeded_generators(self.settings.seed, len(text), first=first + start)
            with batch_invariant(half=True):  # as they are served
                images = self.method.sample(text, generator=generators)
            parts.append(to_uint8(images).cpu())
        return torch.cat(parts)

    def time_one(self, prompts: CaptionedImages, *, calls: int) -> float:
        """Median milliseconds of one picture alone, from text states to pixels."""
        seconds = []
        for number in range(WARMUP_CALLS + calls):
            prompt = prompts.take([number % len(prompts)])
            started = time.perf_counter()
            self.draw(prompt, repeat=number)  # ends on the CPU, so that a GPU has finished
            seconds.append(time.perf_counter() - started)
        return round(1000 * statistics.median(seconds[WARMUP_CALLS:]), 2)

    @property
    def channel(self) -> Channel:
        """What becomes of pictures that the method knows by heart."""
        return Channel(self.recite, None if isinstance(self.method.codec, PixelCodec) else self.restore)

    @torch.no_grad()
    def restore(self, images: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 h w"]:
        """The pictures through the method's codec."""
        codec = self.method.codec
        parts = [to_float(part.to(self.device)) for part in images.split(self.settings.batch_size)]
        return torch.cat([to_uint8(codec.decode(codec.encode(part))).cpu() for part in parts])

    def recite(self, rows: CaptionedImages) -> UInt8[Tensor, "n 3 h w"]:
        """The pictures as the method would draw them if it knew them by heart (`Method.channel`)."""
        states = self.cache.states[self.cache.indices(rows.captions)]
        generator, size = torch.Generator().manual_seed(self.settings.seed), self.settings.batch_size
        parts = []
        for start in range(0, len(rows), size):
            images = to_float(rows.images[start : start + size].to(self.device))
            text = states[start : start + size].to(self.device)
            parts.append(to_uint8(self.method.channel(images, text, generator=generator)).cpu())
        return torch.cat(parts)
