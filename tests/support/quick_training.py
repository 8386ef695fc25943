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
    task: T, source: BatchSource, *, steps: int, lr: float, seed: int = 0, **arguments: Any
) -> Trained[T]:
    with tempfile.TemporaryDirectory() as folder:
        return train(
            task,
            source,
            **{"cost": StepCost(0), "optimization": Optimization(lr=lr)} | arguments,
            total_steps=steps,
            seed=seed,
            settings=TrainingParams(accelerator="cpu"),
            resume=ResumeFolder(Path(folder)),
        )
