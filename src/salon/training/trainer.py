"""One Trainer configuration for every method, and the training of one method from start to saved weights."""

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from salon.data.dataset import CaptionedImages
from salon.devices import device_name, resolve_devices, resolve_precision, resolve_strategy
from salon.images import image_grid, to_float
from salon.methods.base import Method
from salon.params import TrainingParams
from salon.seeding import seeded_generators
from salon.towers.states import Batch, TextStateCache, TextStates
from salon.tracking.runs import Store, log_grid
from salon.training.batches import TrainingBatches
from salon.training.budget import count_forward_flops, count_step_flops
from salon.training.checkpoints import TimedCheckpoints, WholeCheckpoints
from salon.training.cost import TrainingCost, peak_memory_gb
from salon.training.module import MethodModule
from salon.training.resume import CHECKPOINT, ResumeFolder

GRID_PICTURES = 32


def is_main_process() -> bool:
    """Whether this process speaks for all that share a training: it alone writes runs, models and lines."""
    # set by Lightning from the environment that the launchers prepare
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


@dataclass(frozen=True)
class StepCost:
    """Counted FLOPs of training one method."""

    step_flops: float
    """Of one step over all objectives."""
    precompute_flops: int
    """Of `Method.precompute` over the whole training set, once."""


def count_cost(method: Method, data: CaptionedImages, cache: TextStateCache, *, seed: int) -> StepCost:
    """What training `method` on `data` will cost, counted on one batch."""
    rows = torch.arange(method.config.batch_size) % len(data)
    text = cache.states[cache.indices([data.captions[row] for row in rows.tolist()])]
    images = to_float(data.images[rows])
    with torch.no_grad():
        batch = Batch(images, text, method.precompute(images))
    precompute_flops = count_forward_flops(lambda: method.precompute(images))

    def loss(twin: Method, objective: str) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return twin.losses(batch, objective=objective, generator=generator).total

    return StepCost(
        step_flops=sum(
            count_step_flops(method, partial(loss, objective=objective)) for objective in method.objectives
        ),
        precompute_flops=round(precompute_flops / len(rows) * len(data)),
    )


def train(
    method: Method,
    data: CaptionedImages,
    cache: TextStateCache,
    *,
    preview: TextStates,
    total_steps: int,
    cost: StepCost,
    seed: int,
    settings: TrainingParams,
    resume: ResumeFolder,
    store: Store | None,
    run_id: str | None,
) -> tuple[Method, TrainingCost]:
    """Train for `total_steps`, going on from the checkpoint in `resume` if there is one.

    Args:
        store: Where to log, with `run_id`; neither in processes that are not the main one.

    Returns:
        The method with averaged weights, and what it cost.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    module = MethodModule(
        method, data, cache, total_steps=total_steps, seed=seed, cuda_graphs=settings.cuda_graphs
    )
    start_step = resume.start_step()
    clock = _Clock(resume)
    precision = resolve_precision(settings.precision, accelerator=settings.accelerator)
    logger = MLFlowLogger(tracking_uri=store.uri, run_id=run_id) if store else False
    trainer = L.Trainer(
        accelerator=settings.accelerator,
        devices=resolve_devices(settings.devices),
        num_nodes=settings.num_nodes,
        strategy=resolve_strategy(settings, objectives=len(method.objectives)),
        precision=precision,
        max_epochs=1,
        logger=logger,
        log_every_n_steps=settings.log_every_steps,
        enable_model_summary=False,
        enable_checkpointing=False,  # our own: see TimedCheckpoints
        plugins=[WholeCheckpoints()],
        use_distributed_sampler=False,  # the loader shares the batches out itself
        callbacks=[
            clock,
            _Grids(preview, store, run_id, total_steps=total_steps, grids=settings.grids, seed=seed),
            TimedCheckpoints(
                resume.folder / f"{CHECKPOINT}.ckpt", every_seconds=settings.checkpoint_every_seconds
            ),
            TQDMProgressBar(refresh_rate=settings.log_every_steps),
        ],
    )
    batches = TrainingBatches(
        size=len(data),
        batch_size=method.config.batch_size,
        total_steps=total_steps,
        seed=seed,
        start_step=start_step,
        rank=trainer.global_rank,
        world_size=trainer.world_size,
    )
    if start_step and is_main_process():
        print(f"resuming at step {start_step} of {total_steps}")
    if start_step < total_steps:
        trainer.fit(module, batches, ckpt_path=resume.checkpoint, weights_only=True)
    elif resume.checkpoint:
        state = torch.load(resume.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict(state)
    ledger = TrainingCost(
        steps=total_steps,
        train_flops=round(total_steps * cost.step_flops) + cost.precompute_flops,
        train_minutes=clock.seconds / 60,
        images_seen=total_steps * method.config.batch_size,
        parameters=sum(p.numel() for p in method.parameters()),
        peak_memory_gb=peak_memory_gb(trainer.strategy.root_device),
        precision=str(trainer.precision),
        device=device_name(trainer.strategy.root_device),
        warnings=module.warnings,
    )
    return module.averaged.cpu().eval(), ledger


class _Clock(Callback):
    """Time within steps over all attempts; sample grids and what is between steps are excluded."""

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


class _Grids(Callback):
    """Logs pictures of fixed captions and seeds, evenly spaced over the training."""

    def __init__(
        self,
        preview: TextStates,
        store: Store | None,
        run_id: str | None,
        *,
        total_steps: int,
        grids: int,
        seed: int,
    ) -> None:
        self._preview = preview[:GRID_PICTURES]
        self._store, self._run_id, self._seed = store, run_id, seed
        self._due = {round(total_steps * (i + 1) / grids) for i in range(grids)}

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        assert isinstance(module, MethodModule)
        step = module.step
        if step not in self._due or self._store is None or self._run_id is None:
            return
        averaged = module.averaged.eval()
        text = self._preview.to(module.device)
        generators = seeded_generators(self._seed, len(text))
        images = averaged.sample(text, generator=generators)
        grid = image_grid(images, columns=8, zoom=max(1, 128 // images.shape[-1]))
        log_grid(self._store, self._run_id, "train_grid", grid, step=step)
