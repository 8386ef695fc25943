"""One version of a registered model: logged once per set of weights, with all that is known of it."""

import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from PIL import Image

from salon.errors import SalonError
from salon.inference.bundle import read_bundle, write_bundle
from salon.params import Params
from salon.paths import Paths
from salon.registry.candidate import Candidate
from salon.registry.card import model_card
from salon.tracking import runs
from salon.tracking.parent_run import log_headlines, pipeline_tags
from salon.tracking.runs import Store

MAX_DESCRIPTION_LENGTH = 5000  # of a version, in the schema of MLflow's databases
EVIDENCE_FILE = "evidence-{:.12}.json"  # by the digest of the weights
EXAMPLE = {"prompt": ["a rocket", "ракета"], "seed": [7, 8]}  # a column each
SERVED_PACKAGES = (
    "mlflow",
    "torch",
    "transformers",
    "tokenizers",
    "diffusers",
    "safetensors",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "pillow",
    "pydantic",
    "jaxtyping",
    "pyyaml",
)
"""What the served model imports. Not salon itself, which is on no index: the card says how to install it."""


def find_version(store: Store, name: str, model_sha256: str) -> ModelVersion | None:
    """The newest version of `name` with these weights whose files are still there."""
    return find_tagged(store, name, "model_sha256", model_sha256)


def find_tagged(store: Store, name: str, tag: str, value: str) -> ModelVersion | None:
    """The newest version of `name` with this tag whose files are still there."""
    found = store.client.search_model_versions(f"name = '{name}' and tags.{tag} = '{value}'")
    usable = [version for version in found if has_files(store.client, version)]
    return max(usable, key=lambda version: int(version.version), default=None)


def run_to_log_into(store: Store, params: Params, paths: Paths, candidate: Candidate) -> str:
    """The training's own run, or a new one where this store does not know it (weights from a cache)."""
    run_id = candidate.ledger.get("run_id")
    if run_id and runs.knows_run(store, run_id):
        return str(run_id)
    tags = {
        "salon.method": candidate.method,
        "salon.family": candidate.config["family"],
        "salon.restored": "true",
        **runs.provenance_tags(paths),
        **pipeline_tags(store, params, paths),
    }
    settings = {
        "seed": params.training_seed,
        "budget": params.budget.model_dump(),
        "method": candidate.config["config"],
        "total_steps": candidate.steps,
    }
    ledger = runs.flatten(candidate.ledger)
    costs = {f"cost/{key}": value for key, value in ledger.items() if isinstance(value, int | float)}
    with runs.run(store, name=candidate.method, stage="train", tags=tags) as run:
        run.log_params(settings)
        run.log_metrics(costs, step=candidate.steps)
        run.log_dataset(paths)
    return run.id


def log_judgement(store: Store, run_id: str, candidate: Candidate) -> None:
    """Write metrics, grids, and what the guardrails looked at."""
    figures = candidate.flat_metrics()
    run = runs.Run(store, run_id)
    run.log_metrics(figures, step=candidate.steps)
    log_headlines(store, run_id, candidate.method, figures, step=candidate.steps)
    for path in candidate.grids:
        key = "evaluate_" + "".join(c if c.isascii() and c.isalnum() else "_" for c in path.stem.lower())
        with Image.open(path) as image:
            run.log_grid(key, image.convert("RGB"), step=candidate.steps)
    store.client.log_dict(run_id, vars(candidate.evidence), EVIDENCE_FILE.format(candidate.model_sha256))


def create_version(store: Store, run_id: str, candidate: Candidate, *, commit: str | None) -> ModelVersion:
    """Log the model into `run_id` and register it, without any alias."""
    from salon.inference.model import add_golden_samples  # imports torch, which `sync` does without

    digests = {"model_sha256": candidate.model_sha256, "data_sha256": candidate.data_sha256}
    named = {"method": candidate.method, "family": candidate.config["family"]}
    card = model_card(
        **named,
        **digests,
        image_size=candidate.config["shape"]["image_size"],
        judgement=candidate.judgement,
        ledger=candidate.ledger,
        licences=candidate.licences,
        commit=commit,
    )
    if commit:
        digests["git_commit"] = commit
    description = {**named, **digests}
    with tempfile.TemporaryDirectory() as temporary:
        bundle = Path(temporary) / "bundle"
        contents = {**description, "examples": candidate.examples}
        write_bundle(bundle, **candidate.folders, card=card, description=contents)
        add_golden_samples(bundle)
        return log_version(
            store,
            run_id,
            name=candidate.name,
            bundle=bundle,
            card=card,
            metadata=description,
            tags={**digests, "judgement_sha256": candidate.judgement_sha256},
            step=candidate.steps,
        )


def log_version(
    store: Store,
    run_id: str,
    *,
    name: str,
    bundle: Path,
    card: str,
    metadata: Mapping[str, Any],
    tags: Mapping[str, str],
    step: int = 0,
) -> ModelVersion:
    """Log a bundle as a model and register it as a version of `name`."""
    import mlflow.pyfunc  # imports the serving stack, which `sync` does without
    import pandas as pd
    from mlflow.models import Model

    import salon.inference
    from salon.inference.contract import SIGNATURE

    with _as_default(store):
        # what mlflow.pyfunc.log_model calls; that one cannot name a run without setting it running again,
        # which would move the end of the training
        logged = Model.log(
            None,
            name=name,
            flavor=mlflow.pyfunc,
            run_id=run_id,
            step=step,
            registered_model_name=name,
            tags=dict(tags),
            python_model=str(Path(salon.inference.__path__[0]) / "model_code.py"),
            artifacts={"bundle": str(bundle)},
            signature=SIGNATURE,
            input_example=pd.DataFrame(EXAMPLE),  # a dict with a prompt is a chat to MLflow
            pip_requirements=pinned_requirements(),
            metadata=dict(metadata),
        )
    number = str(logged.registered_model_version)
    store.client.update_model_version(name, number, card[:MAX_DESCRIPTION_LENGTH])
    return store.client.get_model_version(name, number)


def pinned_requirements() -> list[str]:
    """The installed versions of what the served model imports."""
    # a local label such as +cpu is on no index
    return [f"{package}=={installed_version(package).partition('+')[0]}" for package in SERVED_PACKAGES]


def download_bundle(store: Store, version: ModelVersion, folder: Path) -> Path:
    """Fetch the weights of a version into `folder`.

    Raises:
        SalonError: they are not whole.
    """
    from mlflow.artifacts import download_artifacts

    uri = f"models:/{version.name}/{version.version}"
    try:
        with _as_default(store):
            model = download_artifacts(artifact_uri=uri, dst_path=str(folder), tracking_uri=store.uri)
    except (MlflowException, OSError) as error:
        raise SalonError(f"its files cannot be fetched: {error}") from None
    bundle = Path(model) / "artifacts" / "bundle"
    read_bundle(bundle)
    return bundle


def has_files(client: MlflowClient, version: ModelVersion) -> bool:
    """False where the files lay on this machine and are gone; a server answers for its own."""
    folder = local_folder(client, version)
    return folder is None or (folder / "MLmodel").is_file()


def local_folder(client: MlflowClient, version: ModelVersion) -> Path | None:
    """Where the files of a version lie on this machine; None where a server keeps them."""
    location = client.get_model_version_download_uri(version.name, str(version.version))
    if location.startswith("models:/"):
        location = client.get_logged_model(location.removeprefix("models:/")).artifact_location
    parsed = urlparse(location)
    return Path(unquote(parsed.path)) if parsed.scheme in ("", "file") else None


def _as_default(store: Store) -> AbstractContextManager[None]:
    """MLflow's model logging knows no explicit store, only the process's own."""
    wanted = {"MLFLOW_TRACKING_URI": store.uri, "MLFLOW_EXPERIMENT_ID": store.experiment_id}
    return runs.environment({**wanted, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"})
