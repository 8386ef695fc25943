"""Where a training keeps what it needs to go on after a kill.

The folder is undeclared and git-ignored (DVC deletes declared outs when a stage starts) and keyed by
everything that determines the result, so that a checkpoint of other settings, code or data is never resumed.
"""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from salon.files import read_json, write_json
from salon.fingerprint import fingerprint
from salon.paths import Paths

# sources that can change what a training computes
SOURCES = ("codecs", "data", "images.py", "judging", "methods", "nn", "seeding.py", "towers", "training")


@dataclass(frozen=True)
class ResumeFolder:
    """Checkpoint and run id of one training."""

    folder: Path

    @property
    def file(self) -> Path:
        """Where the newest checkpoint lies, once there is one."""
        return self.folder / "last.ckpt"

    @property
    def checkpoint(self) -> Path | None:
        """The newest checkpoint, if there is one that can be read."""
        return self.file if self.file.is_file() else None

    def start_step(self) -> int:
        """Steps already done."""
        if self.checkpoint is None:
            return 0
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        return int(state["steps_done"])

    @property
    def run_id(self) -> str | None:
        """The MLflow run that the killed training logged to."""
        path = self.folder / "run.json"
        return read_json(path)["run_id"] if path.is_file() else None

    @property
    def seconds_trained(self) -> float:
        """Training time before the kill."""
        path = self.folder / "clock.json"
        return read_json(path)["seconds"] if path.is_file() else 0.0

    def remember_run(self, run_id: str) -> None:
        write_json(self.folder / "run.json", {"run_id": run_id})

    def remember_seconds(self, seconds: float) -> None:
        write_json(self.folder / "clock.json", {"seconds": seconds})

    def discard(self) -> None:
        """Called when the result is safely written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def resume_folder(paths: Paths, name: str, *, settings: Any, inputs: Iterable[Path]) -> ResumeFolder:
    """The folder for this training with these settings, inputs and sources of Salon."""
    key = fingerprint(settings, files=inputs, sources=SOURCES)
    return ResumeFolder(paths.scratch / "checkpoints" / f"{name}-{key}")
