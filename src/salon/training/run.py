"""One training as a run in MLflow, with the folder that it resumes from."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from salon.devices import resolve_precision, single_device
from salon.params import Params
from salon.paths import Paths
from salon.tracking import runs
from salon.tracking.parent_run import pipeline_tags
from salon.training.resume import ResumeFolder, resume_folder


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

    Args:
        settings: All that determines the result, beside `inputs` and the rows.
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
