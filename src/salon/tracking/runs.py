"""The MLflow run: where it is kept, how it is found again, what is written into it.

Everything goes through `MlflowClient` with an explicit store: no active run, no global tracking URI, so that
a test, a smoke run and a training in one process cannot write into each other's store.
"""

import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlparse

import pyarrow.parquet as pq
from filelock import FileLock
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_GIT_COMMIT
from PIL import Image

from salon.data.shards import shard_paths
from salon.errors import SalonError
from salon.files import read_json
from salon.params import Params
from salon.paths import Paths

MAX_BATCH = 100  # parameters per request (MLflow's limit)
MAX_PARAM_LENGTH = 6000  # MLflow's limit; longer values are cut
MAX_DIGEST_LENGTH = 36  # MLflow's limit
GRID_KEY = re.compile(r"[a-z0-9_]+")  # what MLflow's image view groups by without mangling

RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Store:
    """An opened tracking store and the experiment that runs go to."""

    uri: str
    experiment_id: str

    @cached_property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri)


def tracking_uri(paths: Paths) -> str:
    """`MLFLOW_TRACKING_URI`, or the workspace's own sqlite file, independent of the working directory."""
    own = f"sqlite:///{(paths.root.resolve() / 'mlflow.db').as_posix()}"
    return os.environ.get("MLFLOW_TRACKING_URI") or own


def public_uri(uri: str) -> str:
    """`uri` as it may stand in a file that is shared: no password, no path of this machine."""
    file = sqlite_file(uri)
    return f"sqlite:///{file.name}" if file else _without_password(uri)


def open_store(params: Params, paths: Paths) -> Store:
    """Connect, and create the schema and the experiment where they are missing.

    Raises:
        SalonError: the store cannot be reached or read, or belongs to a workspace at another place.
    """
    uri = tracking_uri(paths)
    # MLflow's client tries for minutes; to find out that nobody answers, seconds are enough
    quick = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
    quick = {name: os.environ.get(name, value) for name, value in quick.items()}
    try:
        with _sqlite_lock(uri), environment(quick):
            return Store(uri, _experiment(_connect(uri), params.experiment, uri=uri, paths=paths))
    except MlflowException as error:
        said = str(error).strip()
        problem = "nobody answers there" if "Max retries exceeded" in said else said.splitlines()[0][:300]
        raise SalonError(
            f"the tracking store {_without_password(uri)} cannot be used: {problem}. Start that server, "
            "correct MLFLOW_TRACKING_URI, or unset it to keep the runs in ./mlflow.db"
        ) from None


def find_or_start_run(
    store: Store, *, name: str, stage: str, run_id: str | None = None, tags: Mapping[str, str] | None = None
) -> str:
    """Set run `run_id` running again if the store knows it, else start a new one; returns its id."""
    tags = {"salon.stage": stage, **(tags or {})}
    if run_id is not None and knows_run(store, run_id):
        store.client.update_run(run_id, status="RUNNING")
        store.client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])
        return run_id
    run = store.client.create_run(store.experiment_id, run_name=name, tags=dict(tags))
    return run.info.run_id


def knows_run(store: Store, run_id: str) -> bool:
    """Whether the store has this run, and it is not deleted."""
    try:
        return store.client.get_run(run_id).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return False
        raise


def finish_run(store: Store, run_id: str, status: RunStatus = "FINISHED") -> None:
    """End a run."""
    store.client.set_terminated(run_id, status=status)


@contextmanager
def run(
    store: Store, *, name: str, stage: str, run_id: str | None = None, tags: Mapping[str, str] | None = None
) -> Iterator["Run"]:
    """A run, started or set running again, that ends with the block: FINISHED, or FAILED where it raises."""
    found = Run(store, find_or_start_run(store, name=name, stage=stage, run_id=run_id, tags=tags))
    try:
        yield found
    except BaseException:  # Ctrl-C too
        finish_run(store, found.id, "FAILED")
        raise
    finish_run(store, found.id)


@dataclass(frozen=True)
class Run:
    """One run, and what is written into it."""

    store: Store
    id: str

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Write parameters, nested ones with dotted keys; writing the same again changes nothing.

        Raises:
            SalonError: the run has another value for a parameter: it is another run.
        """
        known = self.store.client.get_run(self.id).data.params
        new = {key: str(value)[:MAX_PARAM_LENGTH] for key, value in flatten(params).items()}
        for key, value in sorted(new.items()):
            if known.get(key, value) != value:
                raise SalonError(
                    f"run {self.id} was started with {key} = {known[key]}, now it is {value}: start a new run"
                )
        fresh = [Param(key, value) for key, value in new.items() if key not in known]
        for start in range(0, len(fresh), MAX_BATCH):
            self.store.client.log_batch(self.id, params=fresh[start : start + MAX_BATCH])

    def log_metrics(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Write one value per metric, named `split/term`."""
        now = int(time.time() * 1000)
        values = [Metric(key, float(value), now, step) for key, value in metrics.items()]
        self.store.client.log_batch(self.id, metrics=values)

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags."""
        self.store.client.log_batch(self.id, tags=[RunTag(key, value) for key, value in tags.items()])

    def log_grid(self, key: str, image: Image.Image, *, step: int) -> None:
        """Write a picture that the UI shows in a row with the others of `key`."""
        if not GRID_KEY.fullmatch(key):
            raise ValueError(f"image key {key!r}: use lower-case letters, digits and _")
        self.store.client.log_image(self.id, image, key=key, step=step, synchronous=True)

    def log_dataset(self, paths: Paths) -> None:
        """Record which rows the run trains on: hash, columns and counts. No picture is read.

        Raises:
            SalonError: the rows were not ingested or not validated.
        """
        try:
            digest = read_json(paths.validation)["data_sha256"]
            counts = read_json(paths.ingest_report)
        except FileNotFoundError as error:
            raise SalonError(
                f"{error.filename} does not exist: run the ingest and validate stages first"
            ) from None
        schema = pq.read_schema(shard_paths(paths.interim, "train")[0])
        columns = [{"type": str(field.type), "name": field.name, "required": True} for field in schema]
        dataset = Dataset(
            name=counts["source"],
            digest=digest[:MAX_DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": paths.interim.relative_to(paths.root).as_posix()}),
            schema=json.dumps({"mlflow_colspec": columns}),
            profile=json.dumps({"num_rows": counts["ingested"], **counts["splits"]}),
        )
        used = DatasetInput(dataset, [InputTag(MLFLOW_DATASET_CONTEXT, "training")])
        self.store.client.log_inputs(self.id, datasets=[used])


def flatten(mapping: Mapping[str, Any], *, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        name = f"{prefix}{key}"
        flat |= flatten(value, prefix=f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def git_commit(root: Path) -> str | None:
    """The commit checked out at `root`, with `-dirty` where tracked files differ; None outside git."""
    git = partial(subprocess.run, cwd=root, capture_output=True, text=True, check=False)
    # the pipeline itself rewrites these while it runs
    own = (":(exclude)dvc.lock", ":(exclude)reports")
    try:
        head = git(["git", "rev-parse", "HEAD"])
        changed = git(["git", "diff", "--quiet", "HEAD", "--", ".", *own])
    except FileNotFoundError:
        return None
    return None if head.returncode else head.stdout.strip() + ("-dirty" if changed.returncode else "")


def provenance_tags(paths: Paths) -> dict[str, str]:
    """Tags that say which code a run ran."""
    commit = git_commit(paths.root)
    return {MLFLOW_GIT_COMMIT: commit} if commit else {}


def _sqlite_lock(uri: str) -> AbstractContextManager[Any]:
    """Several processes that open a fresh sqlite store at once destroy it."""
    if (file := sqlite_file(uri)) is None:
        return nullcontext()
    file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{file}.lock")


def sqlite_file(uri: str) -> Path | None:
    """The file of a sqlite store; None for a server."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """The process's environment with these variables, for as long as the block lasts."""
    before = {name: os.environ[name] for name in variables if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables.keys() - before.keys():
            os.environ.pop(name, None)
        os.environ.update(before)


def _connect(uri: str) -> MlflowClient:
    logging.getLogger("alembic").setLevel(logging.WARNING)  # one line per migration otherwise
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
    client = MlflowClient(tracking_uri=uri)
    try:
        client.search_experiments(max_results=1)  # creates the tables of a fresh store
    except MlflowException as error:
        if sqlite_file(uri) is None or "out-of-date database schema" not in str(error):
            raise
        upgrade = [sys.executable, "-m", "mlflow", "db", "upgrade", uri]
        if subprocess.run(upgrade, capture_output=True, check=False).returncode:
            raise SalonError(
                f"{uri} is of another MLflow version and cannot be upgraded: move it away"
            ) from error
        client = MlflowClient(tracking_uri=uri)
    return client


def _experiment(client: MlflowClient, name: str, *, uri: str, paths: Paths) -> str:
    # beside the store, which outlives the folders of queued experiments
    artifacts = ((sqlite_file(uri) or paths.root / "mlflow.db").resolve().parent / "mlartifacts").as_uri()
    found = client.get_experiment_by_name(name)
    if found is None:
        # a server knows where artifacts go; a database would put them below the working directory
        location = None if uri.startswith(("http://", "https://")) else artifacts
        try:
            return client.create_experiment(name, artifact_location=location)
        except MlflowException as error:
            found = client.get_experiment_by_name(name)  # another process was quicker
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                raise
    if found.lifecycle_stage != "active":
        raise SalonError(
            f"experiment {name!r} was deleted in {_without_password(uri)}: restore it, or rename it"
        )
    if "MLFLOW_TRACKING_URI" not in os.environ and found.artifact_location != artifacts:
        raise SalonError(
            f"{paths.root.resolve() / 'mlflow.db'} keeps its artifacts in "
            f"{unquote(urlparse(found.artifact_location).path)}: the workspace was moved or copied. Move "
            "mlflow.db away and run `salon sync`"
        )
    return found.experiment_id


def _without_password(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//", uri)
