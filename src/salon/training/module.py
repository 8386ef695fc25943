"""One Lightning module for every method: optimisers, schedules, clipping and averaged weights."""

from contextlib import nullcontext
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from salon.data.loader import CaptionedImages, to_float
from salon.methods.base import Method
from salon.nn.whole_batch import SharedNoise, processes
from salon.text.states import TextStateCache
from salon.training.schedule import warmup_hold_decay

PREPARE_BATCH = 256  # pictures
CHECK_EVERY_STEPS = 200  # between two looks at the health of a training
TERMS_DECAY = 0.98  # of the running averages that are looked at, per step


class MethodModule(L.LightningModule):
    """Trains a method. Each objective has its own optimiser, stepped in the order of `Method.objectives`.

    Noise and dropout of step i come from a generator seeded by (seed, i), so that a resumed run repeats
    exactly what the uninterrupted one would have done; of several processes each takes its pictures' share.
    """

    steps_done: Tensor

    def __init__(
        self, method: Method, data: CaptionedImages, cache: TextStateCache, *, total_steps: int, seed: int
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # several objectives may alternate within one step
        self.method = method
        decay = method.config.ema_decay
        self.ema = AveragedModel(method, multi_avg_fn=get_ema_multi_avg_fn(decay)).requires_grad_(False)
        self.total_steps = total_steps
        self.seed = seed
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.long))
        # plain attributes: the data belong neither to the checkpoint nor to the module's tree
        self._images = data.images
        self._captions = cache.indices(data.captions)
        self._states = cache.states
        self._prepared: Tensor | None = None
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
        """Frozen nets and text states follow the module to its device; small data too."""
        self.method.frozen.to(self.device)
        self._states = self._states.to(self.device)
        self._prepared = prepare_all(self.method, self._images, device=self.device)
        if self.device.type != "cpu":
            self._images = self._images.pin_memory()

    def configure_optimizers(self) -> tuple[list[Any], list[Any]]:
        config = self.method.config
        optimisers, schedules = [], []
        for objective in self.method.objectives:
            optimiser = torch.optim.AdamW(
                self.method.parameters_of(objective),
                lr=config.lr,
                betas=config.betas,
                weight_decay=config.weight_decay,
                fused=True,
            )
            optimisers.append(optimiser)
            schedules.append(torch.optim.lr_scheduler.LambdaLR(optimiser, self._lr_factor))
        return optimisers, schedules

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
        if step != int(self.steps_done):
            raise RuntimeError(f"the loader is at step {step}, the weights at step {int(self.steps_done)}")
        images = to_float(self._images[rows].to(self.device, non_blocking=True))
        text = self._states[self._captions[rows]]
        generator = torch.Generator(self.device).manual_seed(self._noise_seed(step))
        prepared = None if self._prepared is None else self._prepared[rows].to(self.device)
        optimisers, schedules = self.optimizers(), self.lr_schedulers()
        # of other steps Lightning keeps nothing, and telling it takes a tenth of a quick step
        is_logged = (step + 1) % self.trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        for objective, optimiser, schedule in zip(
            self.method.objectives, _as_list(optimisers), _as_list(schedules), strict=True
        ):
            with SharedNoise(len(rows)) if processes()[1] > 1 else nullcontext():
                losses = self.method.losses(
                    images, text, prepared=prepared, objective=objective, step=step, generator=generator
                )
            if not torch.isfinite(losses.total):
                raise FloatingPointError(
                    f"{objective}: the loss is {losses.total.item()} at step {step}: lower the method's lr"
                )
            optimiser.zero_grad(set_to_none=True)
            self.manual_backward(losses.total)
            self.clip_gradients(
                optimiser,
                gradient_clip_val=self.method.config.grad_clip_norm,
                gradient_clip_algorithm="norm",
            )
            optimiser.step()
            schedule.step()
            if is_logged:
                self.log(f"train/{objective}", losses.total.detach(), prog_bar=True, sync_dist=True)
                if len(losses.terms) > 1:
                    self.log_dict(
                        {f"train/{name}": term for name, term in losses.terms.items()}, sync_dist=True
                    )
            for name, term in losses.terms.items():
                self._averages[name] = torch.lerp(term, self._averages.get(name, term), TERMS_DECAY)
        self.ema.update_parameters(self.method)
        self.steps_done += 1
        if is_logged:
            self.log("train/lr", _as_list(optimisers)[0].param_groups[0]["lr"])
        if int(self.steps_done) % CHECK_EVERY_STEPS == 0:
            self.check_health()

    def check_health(self) -> None:
        """Tell once of each thing that the method finds wrong with the averages of its loss terms."""
        found = self.method.warnings({name: float(term) for name, term in self._averages.items()})
        for warning in found:
            if warning not in self.warnings:
                self.warnings.append(warning)
                rank_zero_warn(f"step {int(self.steps_done)}: {warning}")

    def _noise_seed(self, step: int) -> int:
        return (self.seed * 1_000_003 + step) * 4096


@torch.no_grad()
def prepare_all(
    method: Method, images: Tensor, *, device: torch.device | str, batch_size: int = PREPARE_BATCH
) -> Tensor | None:
    """`Method.prepare` of every picture of a training set, uint8 (n, 3, h, w), kept on the CPU."""
    parts = []
    for batch in images.split(batch_size):
        prepared = method.prepare(to_float(batch.to(device)))
        if prepared is None:
            return None
        parts.append(prepared.cpu())
    return torch.cat(parts)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
