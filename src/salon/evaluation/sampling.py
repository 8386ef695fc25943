"""A method at work: pictures of prompts as a user would get them, each from a seed fixed beforehand."""

import statistics
import time
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from salon.codecs.pixels import PixelCodec
from salon.data.dataset import CaptionedImages
from salon.files import read_json
from salon.images import to_float, to_uint8
from salon.judging.leakage import refuse_leaks
from salon.judging.memorisation import Channel
from salon.judging.reconstruction import reconstruct
from salon.methods.base import FrozenNets, Method, load_method, read_config
from salon.nn.products import batch_invariant
from salon.params import EvaluateParams, Params
from salon.paths import Paths
from salon.seeding import seeded_generators
from salon.towers.states import TextStateCache, TextStates
from salon.training.cost import LEDGER

WARMUP_CALLS = 1  # the first call allocates


def load_trained(
    params: Params, paths: Paths, name: str, folder: Path, device: torch.device
) -> tuple[Method, dict[str, Any]]:
    """A trained method with the networks that it draws with, and the ledger of its training.

    Args:
        folder: Where its weights and its ledger lie, as trained or with selected settings.

    Raises:
        SalonError: a stage before has not run, or it was trained with what would judge it.
    """
    _, config = read_config(name, params.method(name))
    frozen = FrozenNets.load(codec=paths.codec(config.codec), clip=paths.clip)
    frozen.to(device)
    method = load_method(folder, frozen).to(device)
    ledger = read_json(folder / LEDGER)
    refuse_leaks(ledger, method=name)
    return method, ledger


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

    def restore(self, images: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 h w"]:
        """The pictures through the method's codec."""
        return reconstruct(self.method.codec, images, batch=self.settings.batch_size, device=self.device)[0]

    def recite(self, rows: CaptionedImages) -> UInt8[Tensor, "n 3 h w"]:
        """The pictures as the method would draw them if it knew them by heart (`Method.channel`)."""
        states = self.states_of(rows)
        generator, size = torch.Generator().manual_seed(self.settings.seed), self.settings.batch_size
        parts = []
        for start in range(0, len(rows), size):
            images = to_float(rows.images[start : start + size].to(self.device))
            text = states[start : start + size]
            parts.append(to_uint8(self.method.channel(images, text, generator=generator)).cpu())
        return torch.cat(parts)
