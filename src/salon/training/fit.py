"""A plain training loop for the small networks that no method owns: judges, towers and codecs."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from salon.training.schedule import warmup_hold_decay

M = TypeVar("M", bound=nn.Module)
CPU = torch.device("cpu")
LOOK_EVERY_STEPS = 20  # at the losses on a GPU, which has to be waited for


@dataclass(frozen=True)
class FitReport:
    """What one training cost."""

    steps: int
    minutes: float
    loss: float
    """Mean of the last tenth of training."""


def fit(
    module: M,
    loss: Callable[[M, int], Tensor],
    *,
    name: str,
    total_steps: int,
    lr: float,
    weight_decay: float = 0.05,
    warmup_fraction: float = 0.05,
    decay_fraction: float = 0.5,
    device: torch.device = CPU,
) -> FitReport:
    """Minimise `loss(module, step)` with AdamW; `module` is trained in place, on `device`, and comes back.

    `loss` brings its batches to where the module is.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    module.to(device)
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=lr, weight_decay=weight_decay, betas=(0.9, 0.98), fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: warmup_hold_decay(
            step,
            total_steps=total_steps,
            warmup_fraction=warmup_fraction,
            decay_fraction=decay_fraction,
        ),
    )
    look_every = 1 if device.type == "cpu" else LOOK_EVERY_STEPS
    started = time.perf_counter()
    unseen: list[Tensor] = []
    recent: list[float] = []
    module.train()
    for step in (bar := tqdm(range(total_steps), name, unit="step", mininterval=1)):
        optimizer.zero_grad(set_to_none=True)
        value = loss(module, step)
        unseen.append(value.detach())
        if (step + 1) % look_every == 0 or step + 1 == total_steps:
            recent += _finite(unseen, before=step + 1, name=name)
            recent = recent[-max(1, total_steps // 10) - 1 :]
            unseen.clear()
            bar.set_postfix(loss=f"{sum(recent) / len(recent):.3f}", refresh=False)
        value.backward()
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    module.eval().cpu()
    minutes = (time.perf_counter() - started) / 60
    return FitReport(steps=total_steps, minutes=minutes, loss=sum(recent) / len(recent))


def _finite(losses: list[Tensor], *, before: int, name: str) -> list[float]:
    """The losses of the steps up to `before` as numbers."""
    values = torch.stack(losses).tolist()
    for step, value in enumerate(values, start=before - len(values)):
        if not math.isfinite(value):
            raise FloatingPointError(f"{name}: the loss is {value} at step {step}; lower its lr")
    return values
