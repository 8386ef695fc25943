"""What the training of a method needs beside its losses: text states, precomputed images, sample grids."""

from typing import Any

import lightning as L
import torch
from jaxtyping import Int
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from salon.data.batches import BatchSource
from salon.data.dataset import CaptionedImages
from salon.images import image_grid, to_float
from salon.methods.base import Method
from salon.seeding import seeded_generators
from salon.towers.states import Batch, TextStateCache, TextStates
from salon.tracking.runs import Run
from salon.training.cost import count_forward_flops
from salon.training.module import TrainingModule
from salon.training.trainer import StepCost, count_step

RESIDENT_SHARE = 0.25  # of a GPU's free memory that the training set may take; the rest is for training
PRECOMPUTE_BATCH = 256  # images
GRID_IMAGES = 32


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
        precomputed = self._precompute(device)
        captions, states = self.cache.indices(self.data.captions), self.cache.states
        extra = [] if precomputed is None else [precomputed]
        tensors = [self.data.images, captions, *vars(states).values(), *extra]
        # a CPU's memory holds the training set already
        free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
        self.is_resident = sum(each.nbytes for each in tensors) <= RESIDENT_SHARE * free
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
    def _precompute(self, device: torch.device) -> Tensor | None:
        """`Method.precompute` of every image, kept on the CPU."""
        parts = []
        for images in self.data.images.split(PRECOMPUTE_BATCH):
            precomputed = self.method.precompute(to_float(images.to(device)))
            if precomputed is None:
                return None
            parts.append(precomputed.cpu())
        return torch.cat(parts)


def count_cost(method: Method, data: CaptionedImages, cache: TextStateCache, *, seed: int) -> StepCost:
    """What training `method` on `data` will cost, counted on one batch."""
    rows = [row % len(data) for row in range(method.config.batch_size)]
    source = MethodBatches(method, data.take(rows), cache, seed=seed)
    source.to(torch.device("cpu"))
    images = to_float(source.data.images)
    precompute_flops = count_forward_flops(lambda: method.precompute(images))
    return StepCost(
        step_flops=count_step(method, source, seed=seed),
        precompute_flops=round(precompute_flops / len(rows) * len(data)),
    )


class SampleGrids(Callback):
    """Logs images of fixed captions and seeds, evenly spaced over the training."""

    def __init__(
        self, preview: TextStates, run: Run | None, *, total_steps: int, grids: int, seed: int
    ) -> None:
        self._preview = preview[:GRID_IMAGES]
        self._run, self._seed = run, seed
        self._due = {round(total_steps * (i + 1) / grids) for i in range(grids)}

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        assert isinstance(module, TrainingModule)
        if module.step not in self._due or self._run is None:
            return
        averaged = module.averaged.eval()
        assert isinstance(averaged, Method)
        text = self._preview.to(module.device)
        images = averaged.sample(text, generator=seeded_generators(self._seed, len(text)))
        grid = image_grid(images, columns=8, zoom=max(1, 128 // images.shape[-1]))
        self._run.log_grid("train_grid", grid, step=module.step)
