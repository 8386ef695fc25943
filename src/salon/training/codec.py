"""Training of a codec: the plain loop, on pictures alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from salon.codecs import CodecTask
from salon.codecs.base import CodecLosses
from salon.devices import device_name
from salon.images import to_float
from salon.nn.quantizer import perplexity
from salon.training.batches import batch_indices
from salon.training.budget import count_forward_flops, count_step_flops
from salon.training.cost import TrainingCost, peak_memory_gb
from salon.training.fit import CPU, fit

CODEBOOK_PICTURES = 512  # sample from which the codebook is set

Log = Callable[[Mapping[str, float], int], None]
"""Takes metrics and their step."""


@dataclass
class _CodeUse:
    """Which codes an epoch has used: one batch says little about a codebook."""

    codebook_size: int
    codes: list[Tensor]

    def metrics(self) -> dict[str, float]:
        used = torch.cat(self.codes)
        self.codes.clear()
        return {
            "train/codes_used": float(used.unique().numel()),
            "train/perplexity": perplexity(used, self.codebook_size),
        }


def train_codec(
    task: CodecTask,
    images: Tensor,
    *,
    seed: int,
    name: str,
    log: Log,
    log_every_steps: int,
    device: torch.device = CPU,
) -> TrainingCost:
    """Train the task's codec in place on uint8 pictures (n, 3, h, w); returns what it cost.

    It is trained on `device` and comes back to the CPU.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    config = task.codec.config
    total_steps = config.max_steps
    use = _CodeUse(task.codec.codebook_size, [])
    steps_per_epoch = max(1, len(images) // config.batch_size)
    codebook_is_set = False

    def losses(module: CodecTask, step: int, *, progress: float) -> CodecLosses:
        rows = batch_indices(step, size=len(images), batch_size=config.batch_size, seed=seed)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        batch = to_float(images[rows].to(module.codec.codebook.device))
        return module.losses(batch, progress=progress, generator=generator)

    def loss(module: CodecTask, step: int) -> Tensor:
        nonlocal codebook_is_set
        progress = step / total_steps
        if not codebook_is_set and module.codebook_due(progress):
            module.initialize_codebook(sample.to(device), torch.Generator().manual_seed(seed))
            codebook_is_set = True
        current = losses(module, step, progress=progress)
        if current.codes is not None:
            use.codes.append(current.codes.flatten())
        if step % log_every_steps == 0:
            log({f"train/{term}": value.item() for term, value in current.terms.items()}, step)
        if use.codes and ((step + 1) % steps_per_epoch == 0 or step + 1 == total_steps):
            log(use.metrics(), step)
        return current.total

    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:CODEBOOK_PICTURES]
    sample = to_float(images[chosen])
    # the dearest kind of step, so that the ledger never says too little
    step_flops = count_step_flops(task, lambda twin: losses(twin, 0, progress=1.0).total)
    codebook_flops = count_forward_flops(lambda: task.codec.encode(sample)) if task.codebook_due(1.0) else 0
    report = fit(task, loss, name=name, total_steps=total_steps, lr=config.lr, device=device)
    return TrainingCost(
        steps=total_steps,
        train_flops=total_steps * step_flops + codebook_flops,
        train_minutes=report.minutes,
        images_seen=total_steps * config.batch_size,
        parameters=sum(p.numel() for p in task.codec.parameters()),
        peak_memory_gb=peak_memory_gb(device),
        precision="32-true",
        device=device_name(device),
    )
