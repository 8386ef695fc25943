"""Checkpoints by the clock, written whole or not at all."""

import os
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Callback

from salon.files import whole_file


class WholeCheckpoints(TorchCheckpointIO):
    """Writes beside the target, then renames.

    Lightning's own goes by the temporary folder; where that is another file system, its last step is a copy,
    and a kill in the middle of it leaves half a checkpoint in place of a good one.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        with whole_file(Path(path)) as part, part.open("wb") as stream:
            torch.save(checkpoint, stream)
            stream.flush()
            os.fsync(stream.fileno())  # or a power cut could keep the rename and lose the bytes


class TimedCheckpoints(Callback):
    """Saves every so many seconds, and when training ends.

    Lightning's ModelCheckpoint ignores its time interval under manual optimization (2.6). Stands behind the
    callbacks that log, so that what a checkpoint counts as done is logged.
    """

    def __init__(self, path: Path, *, every_seconds: float) -> None:
        self._path = path
        self._every_seconds = every_seconds

    def on_train_start(self, *_: Any) -> None:
        self._saved_at = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        due = time.monotonic() - self._saved_at >= self._every_seconds
        if trainer.strategy.broadcast(due):  # clocks differ, and saving needs every process
            trainer.save_checkpoint(self._path)
            self._saved_at = time.monotonic()

    def on_train_end(self, trainer: L.Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self._path)
