"""One Trainer configuration for everything that is trained, from the first step to the averaged weights."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.loggers import MLFlowLogger

from salon.data.batches import BatchSource
from salon.devices import device_name, resolve_devices, resolve_precision, resolve_strategy
from salon.nn.trainable import Trainable
from salon.params import TrainingParams
from salon.tracking.runs import Run
from salon.training.batches import CHECKS, HeldOut, Steps
from salon.training.checkpoints import TimedCheckpoints, WholeCheckpoints
from salon.training.cost import TrainingCost, count_step_flops, peak_memory_gb
from salon.training.module import Optimization, TrainingModule
from salon.training.run import ResumeFolder, is_main_process

T = TypeVar("T", bound=Trainable)

ALONE = {"devices": 1, "num_nodes": 1, "strategy": "auto", "precision": "32-true"}


def small_network(settings: TrainingParams) -> TrainingParams:
    """The settings for a network that no method owns: one device, full precision."""
    return settings.model_copy(update=ALONE)


@dataclass(frozen=True)
class StepCost:
    """Counted FLOPs of one training."""

    step_flops: float
    """Of one step over all objectives."""
    precompute_flops: int = 0
    """Of what is done once before the first step, or beside the steps."""


def count_step(task: Trainable, source: BatchSource, *, seed: int) -> int:
    """FLOPs of one step of `task` over all objectives, counted on the first batch."""
    batch = source.batch(source.rows(0), step=0)

    def loss(twin: Trainable, objective: str) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return twin.losses(batch, objective=objective, generator=generator).total

    return sum(count_step_flops(task, partial(loss, objective=each)) for each in task.objectives)


@dataclass(frozen=True)
class Trained(Generic[T]):
    """What came out of a training."""

    task: T
    """On the CPU, with averaged weights."""
    cost: TrainingCost
    loss: float
    """Mean over the last tenth of the steps."""


def train(
    task: T,
    source: BatchSource,
    *,
    optimization: Optimization,
    total_steps: int,
    cost: StepCost,
    seed: int,
    settings: TrainingParams,
    resume: ResumeFolder,
    held_out: BatchSource | None = None,
    run: Run | None = None,
    callbacks: Sequence[Callback] = (),
) -> "Trained[T]":
    """Train for `total_steps`, going on from the checkpoint in `resume` if there is one.

    Args:
        held_out: Where the held-out value of the objectives is measured, every twentieth of the steps.
        run: Where to log; None in processes that are not the main one.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    module = TrainingModule(
        task,
        source,
        optimization=optimization,
        total_steps=total_steps,
        seed=seed,
        held_out=held_out,
        cuda_graphs=settings.cuda_graphs,
    )
    start_step = resume.start_step()
    clock = _Clock(resume)
    trainer = L.Trainer(
        accelerator=settings.accelerator,
        devices=resolve_devices(settings.devices),
        num_nodes=settings.num_nodes,
        strategy=resolve_strategy(settings, objectives=len(task.objectives)),
        precision=resolve_precision(settings.precision, accelerator=settings.accelerator),
        max_epochs=1,
        val_check_interval=max(1, total_steps // CHECKS),
        num_sanity_val_steps=0,
        logger=MLFlowLogger(tracking_uri=run.store.uri, run_id=run.id) if run else False,
        log_every_n_steps=settings.log_every_steps,
        enable_model_summary=False,
        enable_checkpointing=False,  # our own: see TimedCheckpoints
        plugins=[WholeCheckpoints()],
        use_distributed_sampler=False,  # the loader shares the batches out itself
        callbacks=[
            clock,
            *callbacks,
            TimedCheckpoints(resume.file, every_seconds=settings.checkpoint_every_seconds),
            _StepsBar(refresh_rate=settings.log_every_steps),
        ],
    )
    share = (trainer.global_rank, trainer.world_size)
    steps = Steps(source, total_steps, start_step, *share)
    looks = HeldOut(held_out, total_steps, *share) if held_out else None
    if start_step and is_main_process():
        print(f"resuming at step {start_step} of {total_steps}")
    if start_step < total_steps:
        task.train()
        trainer.fit(module, steps, looks, ckpt_path=resume.checkpoint, weights_only=True)
    elif resume.checkpoint:
        state = torch.load(resume.checkpoint, map_location="cpu", weights_only=True)
        module.load_state_dict(state["state_dict"])
        module.on_load_checkpoint(state)
    spent = TrainingCost(
        steps=total_steps,
        train_flops=round(total_steps * cost.step_flops) + cost.precompute_flops,
        train_minutes=clock.seconds / 60,
        images_seen=total_steps * source.batch_size,
        parameters=sum(p.numel() for p in task.parameters()),
        peak_memory_gb=peak_memory_gb(trainer.strategy.root_device),
        precision=str(trainer.precision),
        device=device_name(trainer.strategy.root_device),
        warnings=module.warnings,
    )
    return Trained(module.averaged.cpu().eval(), spent, module.loss)  # type: ignore[arg-type]


class _Clock(Callback):
    """Time within steps over all attempts; grids, held-out values and what is between steps are excluded."""

    def __init__(self, resume: ResumeFolder) -> None:
        self._resume = resume
        self.seconds = resume.seconds_trained

    def on_train_batch_start(self, *_: Any) -> None:
        self._started = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        self.seconds += time.perf_counter() - self._started

    def on_train_end(self, trainer: L.Trainer, *_: Any) -> None:
        self._wait(trainer)

    def _wait(self, trainer: L.Trainer) -> None:
        """For what a GPU was asked to do and has not done yet."""
        if trainer.strategy.root_device.type == "cuda":
            started = time.perf_counter()
            torch.cuda.synchronize()
            self.seconds += time.perf_counter() - started

    def on_save_checkpoint(self, trainer: L.Trainer, *_: Any) -> None:
        self._wait(trainer)
        if trainer.is_global_zero:
            self._resume.remember_seconds(self.seconds)


class _StepsBar(TQDMProgressBar):
    """One bar, for the steps: a look at held-out images is over before it could be read."""

    def init_validation_tqdm(self) -> Tqdm:
        bar = super().init_validation_tqdm()
        bar.disable = True
        return bar
