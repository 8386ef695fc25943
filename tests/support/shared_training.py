"""Trains small methods as one process of several, or as the only one: `python shared_training.py FOLDER`.

Every family is trained through, and some are also stopped in the middle and resumed. What was learned is
written to `<process>.pt` in FOLDER.
"""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from lightning.pytorch.loggers.logger import DummyLogger

from colour_codes import WIDTH, ColourCodec, make_text
from frozen_nets import build_towers
from salon.codecs.pixels import PixelCodec
from salon.data.dataset import CaptionedImages
from salon.methods.base import DataShape, FrozenNets, Method, families, read_config
from salon.params import TrainingParams
from salon.towers.states import TextStateCache
from salon.training import trainer
from salon.training.method import MethodBatches
from salon.training.module import Optimization
from salon.training.run import ResumeFolder

PICTURES, SIDE, STEPS, STOP_AFTER = 40, 16, 6, 3
SMALL: dict[str, dict[str, Any]] = {
    "clip": {"channels": [8, 8]},
    "dalle": {"width": 16, "layers": 1, "head_width": 8},
    "diffusion": {"channels": [8, 8]},
    "gan": {"generator_channels": [8, 8], "discriminator_channels": [8, 8], "batch_size": 12},
    "vqvae": {"width": 16, "layers": 1, "head_width": 8},
}
RESUMED = ("diffusion", "gan")  # one objective, and two


class Stopped(Exception):
    """What a kill is to the training."""


class Recorder(DummyLogger):
    """Keeps what is logged."""

    rows: ClassVar[dict[int, dict[str, float]]] = {}

    def __init__(self, **_: Any) -> None:
        super().__init__()

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        assert step is not None
        self.rows.setdefault(step, {}).update(metrics)


def learn(family: str, folder: Path, *, processes: int, interrupted: bool) -> dict[str, Any]:
    """Losses by step, and the averaged weights."""
    resume = ResumeFolder(folder / f"{family}-{interrupted}")
    Recorder.rows.clear()
    for attempt in range(1 + interrupted):
        method = build(family)
        if interrupted and attempt == 0:
            stop_after(method, STOP_AFTER)
        try:
            settings = TrainingParams(
                accelerator="cpu", devices=processes, checkpoint_every_seconds=1e-9, log_every_steps=1
            )
            trained = train_method(method, resume, settings).task
        except Stopped:
            assert attempt == 0
            assert resume.start_step() == STOP_AFTER
    return {"losses": dict(Recorder.rows), "weights": trained.state_dict()}


def train_method(
    method: Method, resume: ResumeFolder, settings: TrainingParams, *, steps: int = STEPS
) -> trainer.Trained[Method]:
    """On a few rows, and looked at on the same."""
    data, cache = make_data()
    run = SimpleNamespace(store=SimpleNamespace(uri=""), id=None)
    return trainer.train(
        method,
        MethodBatches(method, data, cache, seed=3),
        optimization=Optimization.from_config(method.config),
        total_steps=steps,
        cost=trainer.StepCost(1, 1),
        seed=3,
        settings=settings,
        resume=resume,
        held_out=MethodBatches(method, data, cache, seed=3),
        run=run if trainer.is_main_process() else None,  # type: ignore[arg-type]
    )


def build(family: str) -> Method:
    """A small method with its frozen networks, the same every time."""
    method_class, config = read_config(family, {"family": family, "lr": 1e-2, **SMALL.get(family, {})})
    torch.manual_seed(0)
    codec = PixelCodec() if config.codec == "pixels" else ColourCodec()
    towers = build_towers(WIDTH)
    towers.to_concept = torch.nn.Linear(WIDTH, WIDTH)
    shape = DataShape(image_size=SIDE, text_width=WIDTH, pooled_width=WIDTH, concept_width=WIDTH)
    return method_class(config, shape, FrozenNets(codec.eval(), towers.requires_grad_(False)))


def make_data() -> tuple[CaptionedImages, TextStateCache]:
    generator = torch.Generator().manual_seed(4)
    images = torch.randint(0, 256, (PICTURES, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    captions = [f"picture {i % 30}" for i in range(PICTURES)]  # some captions stand twice
    distinct = list(dict.fromkeys(captions))
    nothing = [""] * PICTURES
    data = CaptionedImages(nothing, images, captions, nothing, [{}] * PICTURES)
    return data, TextStateCache(distinct, make_text(len(distinct)))


def stop_after(method: Method, steps: int) -> None:
    def stopping(progress: float) -> None:
        if round(progress * STEPS) == steps:
            raise Stopped

    method.before_step = stopping  # type: ignore[method-assign]


def learn_all(folder: Path, *, processes: int) -> dict[str, dict[str, Any]]:
    """Every family through, and those of `RESUMED` also interrupted."""
    before = trainer.MLFlowLogger
    trainer.MLFlowLogger = Recorder  # type: ignore[assignment, misc]
    try:
        return {
            f"{family}{' resumed' * interrupted}": learn(
                family, folder, processes=processes, interrupted=interrupted
            )
            for family in families()
            for interrupted in ((False, True) if family in RESUMED else (False,))
        }
    finally:
        trainer.MLFlowLogger = before  # type: ignore[misc]


if __name__ == "__main__":
    target = Path(sys.argv[1])
    found = learn_all(target, processes=2)
    torch.save(found, target / f"{0 if trainer.is_main_process() else 1}.pt")
