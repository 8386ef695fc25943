"""One Lightning module for everything that is trained: optimizers, schedules, clipping, averaged weights."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from salon.data.batches import BatchSource
from salon.errors import SalonError
from salon.nn.trainable import Losses, Trainable
from salon.seeding import place_seed
from salon.training.cuda_graph import RecordedStep

CHECK_EVERY_STEPS = 200  # between two looks at the health of a training
TERMS_DECAY = 0.98  # of the running averages that are looked at, per step
HELD_OUT_SEED = 20_177  # of the noise that a held-out value is measured with, the same at every look


@dataclass(frozen=True)
class Optimization:
    """How a module is optimized: AdamW, a warm-up, a flat part and a linear decay (Hägele 2024, WSD)."""

    lr: float
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    warmup_fraction: float = 0.05
    decay_fraction: float = 0.5
    grad_clip_norm: float = 1.0
    ema_decay: float | None = None
    """Per step, of the averaged weights that are kept; None keeps the last weights."""

    @classmethod
    def from_config(cls, config: Any) -> "Optimization":
        """The fields of this class that a method's settings state."""
        return cls(**{name: getattr(config, name) for name in cls.__dataclass_fields__})


def warmup_hold_decay(step: int, *, total_steps: int, warmup_fraction: float, decay_fraction: float) -> float:
    """Factor on the learning rate at `step`: linear up, flat, linear down to zero (Hägele 2024, WSD)."""
    warmup_steps = max(1, round(warmup_fraction * total_steps))
    decay_steps = max(1, round(decay_fraction * total_steps))
    rise = (step + 1) / warmup_steps
    fall = (total_steps - step) / decay_steps
    return max(0.0, min(1.0, rise, fall))


class TrainingModule(L.LightningModule):
    """Trains a task. Each objective has its own optimizer, stepped in the order of `Trainable.objectives`.

    Noise and dropout of step i come from a generator seeded by (seed, i), so that a resumed run repeats
    exactly what the uninterrupted one would have done; of several processes each takes its images' share.

    One GPU is asked for nothing that a step does not need: to wait for it costs more than the work.
    """

    steps_done: Tensor

    def __init__(
        self,
        task: Trainable,
        source: BatchSource,
        *,
        optimization: Optimization,
        total_steps: int,
        seed: int,
        held_out: BatchSource | None = None,
        cuda_graphs: bool = True,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # several objectives may alternate within one step
        self.task = task
        self.ema: AveragedModel | None = None
        if optimization.ema_decay is not None:
            average = get_ema_multi_avg_fn(optimization.ema_decay)
            self.ema = AveragedModel(task, multi_avg_fn=average).requires_grad_(False)
        self.optimization = optimization
        self.total_steps = total_steps
        self.seed = seed
        self.cuda_graphs = cuda_graphs
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.long))
        self.step = 0
        """`steps_done` as the CPU knows it."""
        # plain attributes: the data belong neither to the checkpoint nor to the module's tree
        self._source, self._held_out = source, held_out
        self._recorded: dict[str, RecordedStep] = {}
        self._unchecked: dict[str, dict[int, Tensor]] = {objective: {} for objective in task.objectives}
        self._averages: dict[str, Tensor] = {}
        self.last_losses: list[float] = []
        """Of the first objective, in the last tenth of the steps."""
        self.warnings: list[str] = []
        """What the task found wrong with its own training, each once."""

    @property
    def averaged(self) -> Trainable:
        """The task with averaged weights, where there are any: what is sampled, saved and judged."""
        return self.task if self.ema is None else self.ema.module  # type: ignore[return-value]

    @property
    def loss(self) -> float:
        """Mean of the first objective over the last tenth of the steps."""
        return sum(self.last_losses) / max(1, len(self.last_losses))

    def on_fit_start(self) -> None:
        """Data follow the module to its device."""
        for source in (self._source, self._held_out):
            if source is not None:
                source.to(self.device)
        self._generator = torch.Generator(self.device)

    def on_train_start(self) -> None:
        """What a checkpoint brought back is known here."""
        self.step = int(self.steps_done)
        self._averaged: list[Tensor] = list(self.averaged.parameters())
        self._live: list[Tensor] = list(self.task.parameters())

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Rows stay where the source wants them."""
        return batch

    def configure_optimizers(self) -> tuple[list[Any], list[Any]]:
        wanted = self.optimization
        optimizers = [
            torch.optim.AdamW(
                self.task.parameters_of(objective),
                lr=wanted.lr,
                betas=wanted.betas,
                weight_decay=wanted.weight_decay,
                # scaled gradients of fp16 it takes as they are, and they have to be clipped unscaled
                fused=not self._scales_gradients,
            )
            for objective in self.task.objectives
        ]
        factor = partial(
            warmup_hold_decay,
            total_steps=self.total_steps,
            warmup_fraction=wanted.warmup_fraction,
            decay_fraction=wanted.decay_fraction,
        )
        return optimizers, [torch.optim.lr_scheduler.LambdaLR(each, factor) for each in optimizers]

    @property
    def _scales_gradients(self) -> bool:
        return self.trainer.precision == "16-mixed"

    def training_step(self, batch: tuple[int, Tensor], batch_idx: int) -> None:
        step, rows = batch
        if step != self.step:
            raise RuntimeError(f"the loader is at step {step}, the weights at step {self.step}")
        self.task.before_step(step / self.total_steps)
        self._generator.manual_seed(place_seed(self.seed, step) * self.task.noise_stride)
        optimizers, schedules = self.optimizers(), self.lr_schedulers()
        # of other steps Lightning keeps nothing, and telling it takes a tenth of a quick step
        is_logged = (step + 1) % self.trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        for objective, optimizer, schedule in zip(
            self.task.objectives, _as_list(optimizers), _as_list(schedules), strict=True
        ):
            losses = self._losses_and_gradients(objective, optimizer, rows)
            self._unchecked[objective][step] = losses.total.detach()
            if self.device.type == "cpu" or is_logged:
                self.check_losses(objective)
            optimizer.step()
            schedule.step()
            if is_logged:
                self.log(f"train/{objective}", losses.total.detach(), prog_bar=True, sync_dist=True)
                if len(losses.terms) > 1:
                    terms = {f"train/{name}": term for name, term in losses.terms.items()}
                    self.log_dict(terms, sync_dist=True)
            for name, term in losses.terms.items():
                self._averages[name] = torch.lerp(term, self._averages.get(name, term), TERMS_DECAY)
        self._average()
        self.steps_done += 1
        self.step += 1
        if is_logged:
            self.log("train/lr", _as_list(optimizers)[0].param_groups[0]["lr"])
        if self.step % CHECK_EVERY_STEPS == 0:
            self.check_health()

    def validation_step(self, batch: tuple[int, Tensor], batch_idx: int) -> None:
        """Log what the averaged weights lose on held-out images, with the same noise at every look."""
        number, rows = batch
        assert self._held_out is not None
        held_out = self._held_out.batch(rows, step=number)
        for objective in self.task.held_out_objectives:
            self._generator.manual_seed(place_seed(HELD_OUT_SEED, number))
            losses = self.averaged.losses(held_out, objective=objective, generator=self._generator)
            self.log(f"val/{objective}", losses.total, batch_size=len(rows), sync_dist=True)

    def _losses_and_gradients(self, objective: str, optimizer: Any, rows: Tensor) -> Losses:
        if self._can_replay:
            if objective not in self._recorded:
                self._recorded[objective] = self._record(objective, rows)
            return self._recorded[objective](rows)
        losses = self._losses(objective, rows, self._generator)
        optimizer.zero_grad(set_to_none=True)
        self.manual_backward(losses.total)
        return losses

    def _record(self, objective: str, rows: Tensor) -> RecordedStep:
        parameters = self.task.parameters_of(objective)
        compute = partial(self._losses, objective)
        try:
            return RecordedStep.record(compute, rows.to(self.device), self._generator, parameters)
        except RuntimeError as error:
            raise SalonError(
                f"{objective}: its step cannot be recorded as a CUDA graph ({str(error).splitlines()[0]}): "
                "set training.cuda_graphs: false, or replayable = False in the method"
            ) from error

    def _losses(self, objective: str, rows: Tensor, generator: torch.Generator) -> Losses:
        batch = self._source.batch(rows, step=self.step)
        return self.task.losses(batch, objective=objective, generator=generator)

    @property
    def _can_replay(self) -> bool:
        return (
            self.cuda_graphs
            and self.device.type == "cuda"
            and self.task.replayable
            and self._source.is_resident
            and not self._scales_gradients
            and not dist.is_initialized()  # whose hooks on gradients belong to no recording
        )

    @torch.no_grad()
    def _average(self) -> None:
        """What `AveragedModel.update_parameters` does, which asks the device how often it was called and
        sorts all tensors by device and type, every time anew: a seventh of a replayed step.
        """
        if self.ema is None:
            return
        if self.step == 0:
            self.ema.update_parameters(self.task)  # the first weights are taken as they are
            return
        assert self.ema.multi_avg_fn is not None
        self.ema.multi_avg_fn(self._averaged, self._live, self.ema.n_averaged)
        self.ema.n_averaged += 1
        for averaged, live in zip(self.averaged.buffers(), self.task.buffers(), strict=True):
            averaged.copy_(live)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip: here gradients are unscaled, whatever the precision."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, self.optimization.grad_clip_norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """No weights are kept that a loss has spoiled."""
        for objective in self._unchecked:
            self.check_losses(objective)
        checkpoint["last_losses"] = self.last_losses

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.last_losses = checkpoint["last_losses"]

    def check_losses(self, objective: str) -> None:
        """Look at the losses since the last look.

        Raises:
            FloatingPointError: one is not finite.
        """
        losses = self._unchecked[objective]
        if not losses:
            return
        values = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))
        losses.clear()
        for step, value in values.items():
            if not math.isfinite(value):
                raise FloatingPointError(f"{objective}: the loss is {value} at step {step}: lower its lr")
        if objective == self.task.objectives[0]:
            self.last_losses = [*self.last_losses, *values.values()][-max(1, self.total_steps // 10) - 1 :]

    def check_health(self) -> None:
        """Tell once of each thing that the task finds wrong with the averages of its loss terms."""
        found = self.task.warnings({name: float(term) for name, term in self._averages.items()})
        for warning in sorted(set(found) - set(self.warnings), key=found.index):
            self.warnings.append(warning)
            rank_zero_warn(f"step {self.step}: {warning}")


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
