"""What the training of a codec needs beside its losses: a codebook set from images, and a look at its use."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from salon.codecs import CodecTask
from salon.data.batches import ImageBatches
from salon.images import to_float
from salon.nn.quantizer import perplexity
from salon.tracking.runs import Run
from salon.training.cost import count_forward_flops
from salon.training.module import TrainingModule
from salon.training.trainer import StepCost, count_step

CODEBOOK_IMAGES = 512  # sample from which the codebook is set


def count_codec_cost(task: CodecTask, source: ImageBatches, *, seed: int) -> StepCost:
    """Of the dearest kind of step, so that the ledger never says too little."""
    sample = codebook_sample(source, seed=seed)
    codebook_flops = count_forward_flops(lambda: task.codec.encode(sample)) if task.codebook_due(1.0) else 0
    return StepCost(count_step(task, source, seed=seed), codebook_flops)


def codebook_sample(source: ImageBatches, *, seed: int) -> Tensor:
    """Images (n, 3, h, w) that the codebook is set from."""
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(seed))
    return to_float(source.images[order[:CODEBOOK_IMAGES]])


class Codebook(Callback):
    """Sets the codebook when it is due; logs which codes an epoch has used: one batch says little of them."""

    def __init__(self, source: ImageBatches, run: Run | None, *, seed: int) -> None:
        self._source, self._run, self._seed = source, run, seed
        self._steps_per_epoch = max(1, len(source) // source.batch_size)
        self._used: list[Tensor] = []

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        task, step, total = _parts(module)
        was_due = step > 0 and task.codebook_due((step - 1) / total)
        if task.codebook_due(step / total) and not was_due:
            sample = codebook_sample(self._source, seed=self._seed).to(module.device)
            task.initialize_codebook(sample, torch.Generator().manual_seed(self._seed))

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        task, done, total = _parts(module)
        if task.codes is None:
            return
        self._used.append(task.codes.flatten())
        if self._run is not None and (done % self._steps_per_epoch == 0 or done == total):
            used = torch.cat(self._used)
            self._used.clear()
            figures = {
                "train/codes_used": float(used.unique().numel()),
                "train/perplexity": perplexity(used, task.codec.codebook_size),
            }
            self._run.log_metrics(figures, step=done - 1)


def _parts(module: L.LightningModule) -> tuple[CodecTask, int, int]:
    """The task, the steps done and all steps."""
    assert isinstance(module, TrainingModule)
    assert isinstance(module.task, CodecTask)
    return module.task, module.step, module.total_steps
