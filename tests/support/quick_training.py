"""A short training of whatever can be trained, on the CPU and without a run."""

import tempfile
from pathlib import Path
from typing import Any, TypeVar

from salon.data.batches import BatchSource
from salon.nn.trainable import Trainable
from salon.params import TrainingParams
from salon.training.module import Optimization
from salon.training.run import ResumeFolder
from salon.training.trainer import StepCost, Trained, train

T = TypeVar("T", bound=Trainable)


def learn_quickly(
    task: T,
    source: BatchSource,
    *,
    steps: int,
    lr: float,
    seed: int = 0,
    folder: Path | None = None,
    **arguments: Any,
) -> Trained[T]:
    """Train, with checkpoints after every step in `folder` if it is given."""
    with tempfile.TemporaryDirectory() as scratch:
        return train(
            task,
            source,
            **{"cost": StepCost(0), "optimization": Optimization(lr=lr)} | arguments,
            total_steps=steps,
            seed=seed,
            settings=TrainingParams(accelerator="cpu", checkpoint_every_seconds=1e-9 if folder else 60),
            resume=ResumeFolder(folder or Path(scratch)),
        )
