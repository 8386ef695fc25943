"""The parent of all runs of one pipeline run: the same rows, settings and code, whichever method and stage.

DVC runs every stage in a process of its own and tells none of them that they belong together. What they have
in common does: its digest finds the parent again, after a kill as well.
"""

from collections.abc import Mapping

from filelock import FileLock
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from salon.files import read_json
from salon.fingerprint import fingerprint
from salon.params import Params
from salon.paths import Paths
from salon.tracking import runs
from salon.tracking.runs import Store

PIPELINE = "salon.pipeline"  # tag of the parent: the digest
SOURCES = ("codecs", "data", "images.py", "judging", "methods", "nn", "seeding.py", "towers", "training")
HEADLINES = (
    "alignment_all",
    "likeness",
    "diversity",
    "copy_rate",
    "nearer",
    "latency_ms_p50",
    "train_minutes",
)
"""Terms of a method's judgement that its parent shows beside those of the other methods."""


def pipeline_tags(store: Store, params: Params, paths: Paths) -> dict[str, str]:
    """What makes a run a child of this pipeline run; the parent is created where there is none."""
    paths.scratch.mkdir(parents=True, exist_ok=True)
    settings = params.model_dump(mode="json", by_alias=True)
    rows = read_json(paths.validation)["data_sha256"] if paths.validation.is_file() else ""
    key = fingerprint([settings, rows], sources=SOURCES)
    with FileLock(paths.scratch / "pipeline.lock"):  # trainings may start at once
        found = store.client.search_runs([store.experiment_id], f"tags.`{PIPELINE}` = '{key}'", max_results=1)
        if found:
            return {MLFLOW_PARENT_RUN_ID: str(found[0].info.run_id)}
        tags = runs.provenance_tags(paths)
        # it does nothing itself; its end moves with that of its children
        with runs.run(store, name=f"pipeline {key[:6]}", stage="pipeline", tags=tags) as parent:
            parent.log_params(settings)
            if rows:
                parent.log_dataset(paths)
        parent.log_tags({PIPELINE: key})  # last: half a parent is never found
        return {MLFLOW_PARENT_RUN_ID: parent.id}


def log_headlines(store: Store, run_id: str, method: str, figures: Mapping[str, float], *, step: int) -> None:
    """Write a method's most telling figures into the parent of its run, as `<method>/<split>/<term>`."""
    parent = store.client.get_run(run_id).data.tags.get(MLFLOW_PARENT_RUN_ID)
    if parent is None or not runs.knows_run(store, parent):
        return
    telling = {
        f"{method}/{name}": value
        for name, value in figures.items()
        if name.rpartition("/")[2] in HEADLINES and "val" not in name.split("/")
    }
    runs.Run(store, parent).log_metrics(telling, step=step)
    runs.finish_run(store, parent)
