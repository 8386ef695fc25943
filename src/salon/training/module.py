"""One Lightning module for every method: optimizers, schedules, clipping and averaged weights."""

import math
from functools import partial
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from salon.data.dataset import CaptionedImages
from salon.errors import SalonError
from salon.images import to_float
from salon.methods.base import Losses, Method
from salon.towers.states import TextStateCache
from salon.training.batches import BatchSource
from salon.training.cuda_graph import RecordedStep
from salon.training.schedule import warmup_hold_decay

PRECOMPUTE_BATCH = 256  # pictures
CHECK_EVERY_STEPS = 200  # between two looks at the health of a training
TERMS_DECAY = 0.98  # of the running averages that are looked at, per step


class MethodModule(L.LightningModule):
    """Trains a method. Each objective has its own optimizer, stepped in the order of `Method.objectives`.

    Noise and dropout of step i come from a generator seeded by (seed, i), so that a resumed run repeats
    exactly what the uninterrupted one would have done; of several processes each takes its pictures' share.

    One GPU is asked for nothing that a step does not need: to wait for it costs more than the work.
    """

    steps_done: Tensor

    def __init__(
        self,
        method: Method,
        data: CaptionedImages,
        cache: TextStateCache,
        *,
        total_steps: int,
        seed: int,
        cuda_graphs: bool = True,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # several objectives may alternate within one step
        self.method = method
        decay = method.config.ema_decay
        self.ema = AveragedModel(method, multi_avg_fn=get_ema_multi_avg_fn(decay)).requires_grad_(False)
        self.total_steps = total_steps
        self.seed = seed
        self.cuda_graphs = cuda_graphs
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.long))
        self.step = 0
        """`steps_done` as the CPU knows it."""
        # plain attributes: the data belong neither to the checkpoint nor to the module's tree
        self._data, self._cache = data, cache
        self._replays: dict[str, RecordedStep] = {}
        self._unchecked: dict[str, dict[int, Tensor]] = {objective: {} for objective in method.objectives}
        self._averages: dict[str, Tensor] = {}
        self.warnings: list[str] = []
        """What the method found wrong with its own training, each once."""

    @property
    def averaged(self) -> Method:
        """The method with averaged weights: what is sampled, saved and judged."""
        averaged = self.ema.module
        assert isinstance(averaged, Method)
        return averaged

    def on_fit_start(self) -> None:
        """Frozen nets and data follow the module to its device."""
        self.method.frozen.to(self.device)
        precomputed = precompute_all(self.method, self._data.images, device=self.device)
        self._feed = BatchSource(self._data, self._cache, precomputed, device=self.device)
        self._generator = torch.Generator(self.device)

    def on_train_start(self) -> None:
        """What a checkpoint brought back is known here."""
        self.step = int(self.steps_done)
        self._averaged: list[Tensor] = list(self.averaged.parameters())
        self._live: list[Tensor] = list(self.method.parameters())

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Rows stay where the feed wants them."""
        return batch

    def configure_optimizers(self) -> tuple[list[Any], list[Any]]:
        config = self.method.config
        optimizers, schedules = [], []
        for objective in self.method.objectives:
            optimizer = torch.optim.AdamW(
                self.method.parameters_of(objective),
                lr=config.lr,
                betas=config.betas,
                weight_decay=config.weight_decay,
                # scaled gradients of fp16 it takes as they are, and they have to be clipped unscaled
                fused=not self._scales_gradients,
            )
            optimizers.append(optimizer)
            schedules.append(torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_factor))
        return optimizers, schedules

    @property
    def _scales_gradients(self) -> bool:
        return self.trainer.precision == "16-mixed"

    def _lr_factor(self, step: int) -> float:
        config = self.method.config
        return warmup_hold_decay(
            step,
            total_steps=self.total_steps,
            warmup_fraction=config.warmup_fraction,
            decay_fraction=config.decay_fraction,
        )

    def training_step(self, batch: tuple[int, Tensor], batch_idx: int) -> None:
        step, rows = batch
        if step != self.step:
            raise RuntimeError(f"the loader is at step {step}, the weights at step {self.step}")
        self._generator.manual_seed(self._noise_seed(step))
        optimizers, schedules = self.optimizers(), self.lr_schedulers()
        # of other steps Lightning keeps nothing, and telling it takes a tenth of a quick step
        is_logged = (step + 1) % self.trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        for objective, optimizer, schedule in zip(
            self.method.objectives, _as_list(optimizers), _as_list(schedules), strict=True
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
                    self.log_dict(
                        {f"train/{name}": term for name, term in losses.terms.items()}, sync_dist=True
                    )
            for name, term in losses.terms.items():
                self._averages[name] = torch.lerp(term, self._averages.get(name, term), TERMS_DECAY)
        self._average()
        self.steps_done += 1
        self.step += 1
        if is_logged:
            self.log("train/lr", _as_list(optimizers)[0].param_groups[0]["lr"])
        if self.step % CHECK_EVERY_STEPS == 0:
            self.check_health()

    def _losses_and_gradients(self, objective: str, optimizer: Any, rows: Tensor) -> Losses:
        if self._can_replay:
            if objective not in self._replays:
                self._replays[objective] = self._record(objective, rows)
            return self._replays[objective](rows)
        losses = self._losses(objective, rows, self._generator)
        optimizer.zero_grad(set_to_none=True)
        self.manual_backward(losses.total)
        return losses

    def _record(self, objective: str, rows: Tensor) -> RecordedStep:
        parameters = self.method.parameters_of(objective)
        compute = partial(self._losses, objective)
        try:
            return RecordedStep.record(compute, rows.to(self.device), self._generator, parameters)
        except RuntimeError as error:
            raise SalonError(
                f"{objective}: its step cannot be recorded as a CUDA graph ({str(error).splitlines()[0]}): "
                "set training.cuda_graphs: false, or replayable = False in the method"
            ) from error

    def _losses(self, objective: str, rows: Tensor, generator: torch.Generator) -> Losses:
        return self.method.losses(self._feed.batch(rows), objective=objective, generator=generator)

    @property
    def _can_replay(self) -> bool:
        return (
            self.cuda_graphs
            and self.device.type == "cuda"
            and self.method.replayable
            and self._feed.is_resident
            and not self._scales_gradients
            and not dist.is_initialized()  # whose hooks on gradients belong to no recording
        )

    @torch.no_grad()
    def _average(self) -> None:
        """What `AveragedModel.update_parameters` does, which asks the device how often it was called and
        sorts all tensors by device and type, every time anew: a seventh of a replayed step.
        """
        if self.step == 0:
            self.ema.update_parameters(self.method)  # the first weights are taken as they are
            return
        assert self.ema.multi_avg_fn is not None
        self.ema.multi_avg_fn(self._averaged, self._live, self.ema.n_averaged)
        self.ema.n_averaged += 1
        for averaged, live in zip(self.averaged.buffers(), self.method.buffers(), strict=True):
            averaged.copy_(live)

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip: here gradients are unscaled, whatever the precision."""
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        torch.nn.utils.clip_grad_norm_(parameters, self.method.config.grad_clip_norm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """No weights are kept that a loss has spoiled."""
        for objective in self._unchecked:
            self.check_losses(objective)

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
                raise FloatingPointError(
                    f"{objective}: the loss is {value} at step {step}: lower the method's lr"
                )

    def check_health(self) -> None:
        """Tell once of each thing that the method finds wrong with the averages of its loss terms."""
        found = self.method.warnings({name: float(term) for name, term in self._averages.items()})
        for warning in found:
            if warning not in self.warnings:
                self.warnings.append(warning)
                rank_zero_warn(f"step {self.step}: {warning}")

    def _noise_seed(self, step: int) -> int:
        return (self.seed * 1_000_003 + step) * 4096


@torch.no_grad()
def precompute_all(
    method: Method, images: Tensor, *, device: torch.device | str, batch_size: int = PRECOMPUTE_BATCH
) -> Tensor | None:
    """`Method.precompute` of every picture of a training set, uint8 (n, 3, h, w), kept on the CPU."""
    parts = []
    for batch in images.split(batch_size):
        precomputed = method.precompute(to_float(batch.to(device)))
        if precomputed is None:
            return None
        parts.append(precomputed.cpu())
    return torch.cat(parts)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
