"""One training as a run in MLflow, with the folder that keeps what it needs to go on after a kill.

The folder is undeclared and git-ignored (DVC deletes declared outs when a stage starts) and keyed by
everything that determines the result, so that a checkpoint of other settings, code or data is never resumed.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.utilities import rank_zero_only

from salon.devices import resolve_precision, single_device
from salon.files import read_json, write_json
from salon.fingerprint import fingerprint
from salon.params import Params
from salon.paths import Paths
from salon.tracking import runs
from salon.tracking.parent_run import pipeline_tags

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


def is_main_process() -> bool:
    """Whether this process speaks for all that share a training: it alone writes runs, models and lines."""
    # set by Lightning from the environment that the launchers prepare
    return rank_zero_only.rank == 0  # type: ignore[attr-defined]


@contextmanager
def training_run(
    params: Params,
    paths: Paths,
    *,
    name: str,
    stage: str,
    settings: Mapping[str, Any],
    inputs: Iterable[Path] = (),
    tags: Mapping[str, str] | None = None,
) -> Iterator[tuple[runs.Run | None, ResumeFolder]]:
    """The run, None in processes that are not the main one, and the folder.

    The run ends FINISHED and the folder goes when the block ends well; else the run ends FAILED.
    `settings` is all that determines the result, beside `inputs` and the rows.
    """
    key = [
        settings,
        params.training.model_dump(),
        # another device draws other noise, another precision rounds otherwise
        single_device(params.training).type,
        resolve_precision(params.training.precision, accelerator=params.training.accelerator),
    ]
    resume = resume_folder(paths, name, settings=key, inputs=[paths.validation, *inputs])
    if not is_main_process():
        yield None, resume
        return
    store = runs.open_store(params, paths)
    tags = {**(tags or {}), **pipeline_tags(store, params, paths)}
    with runs.run(store, name=name, stage=stage, tags=tags, run_id=resume.run_id) as run:
        resume.remember_run(run.id)
        run.log_params(settings)
        run.log_dataset(paths)
        yield run, resume
    resume.discard()
