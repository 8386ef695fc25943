"""Say what a picture says of itself, and draw it again to see whether that is true."""

import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

import salon
from salon.errors import SalonError
from salon.files import read_json
from salon.inference.credentials import Credentials, has_credentials, read_credentials
from salon.inference.provenance import Provenance, Record, read_record
from salon.params import Params
from salon.paths import Paths

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from salon.inference.bundle import PackagedModel
    from salon.tracking.runs import Store

MAX_BYTES = 64 * 2**20  # no picture of ours is larger by far
IDENTICAL, DIFFERS, NOT_REPRODUCIBLE = "identical", "differs", "not reproducible"
NOT_PRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
OWN_VALUE = "the model's own"


@dataclass(frozen=True)
class Reproduction:
    """What came out when the picture was drawn again."""

    verdict: str
    model: str | None
    """Whose weights drew it this time."""
    reason: str


def run(picture: Path, *, as_json: bool = False, workspace: tuple[Params, Paths] | None = None) -> bool:
    """Print what `picture` holds; with a workspace, draw it again. False where that gave another picture.

    Raises:
        SalonError: no such file, no PNG, no provenance, or a picture that was changed after it was drawn.
    """
    try:
        if picture.stat().st_size > MAX_BYTES:
            raise SalonError(f"{picture} is larger than {MAX_BYTES // 2**20} MiB: salon did not draw it")
        content = picture.read_bytes()
    except OSError as error:
        raise SalonError(f"{picture} cannot be read: {error.strerror}") from None
    record = read_record(content, name=str(picture))
    credentials = read_credentials(content) if has_credentials(content) else None
    if credentials is not None and credentials.state == "invalid":
        raise SalonError(
            f"the Content Credentials in {picture} do not hold: the file was changed after it was signed "
            f"({', '.join(credentials.reasons)})"
        )
    reproduction = reproduce(record, *workspace) if workspace else None
    if as_json:
        report = {
            "software": record.software,
            "digital_source_type": record.digital_source_type,
            **asdict(record.provenance),
            "content_credentials": asdict(credentials) if credentials else None,
            "reproduction": asdict(reproduction) if reproduction else None,
        }
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        print("\n".join(_sentences(picture, record, credentials, reproduction)))
    return reproduction is None or reproduction.verdict == IDENTICAL


def reproduce(record: Record, params: Params, paths: Paths) -> Reproduction:
    """Draw the picture again with the weights that drew it, from the registry or from this workspace."""
    from salon.inference.request import RequestError  # imports mlflow

    provenance = record.provenance
    model = None
    try:
        with _weights(provenance, params, paths) as (model, package):
            again = _draw(provenance, package)
    except (SalonError, RequestError) as error:
        return Reproduction(NOT_REPRODUCIBLE, model, str(getattr(error, "sentence", error)))
    if again.shape == record.pixels.shape and (again == record.pixels).all():
        return Reproduction(IDENTICAL, model, "every pixel is the same")
    return Reproduction(DIFFERS, model, _difference(record, again))


@contextmanager
def _weights(provenance: Provenance, params: Params, paths: Paths) -> "Iterator[tuple[str, PackagedModel]]":
    """The model that drew a picture, and what it is called; a SalonError where nobody has its weights."""
    from salon.inference.bundle import CLIP, CODEC, METHOD, PackagedModel, read_models
    from salon.registry import candidate, versions
    from salon.tracking import runs

    name = candidate.registered_name(provenance.method)
    uri = runs.tracking_uri(paths)
    file = runs.sqlite_file(uri)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if file is None or file.is_file():  # opening a store would create it
            store = runs.open_store(params, paths)
            if version := _find_version(store, name, provenance):
                packages = read_models(versions.download_bundle(store, version, folder))
                yield f"{name} version {version.version} of the registry", packages[provenance.method]
                return
        trained = paths.selected(provenance.method)
        is_trained = (trained / "model.safetensors").is_file()
        if is_trained and candidate.model_sha256(paths, provenance.method) == provenance.model_sha256:
            codec = paths.codec(read_json(trained / "config.json")["config"]["codec"])
            folders = {METHOD: trained, CLIP: paths.clip, CODEC: codec}
            description = {key: getattr(provenance, key) for key in ("model_sha256", "data_sha256")}
            digests = {part: str(folder) for part, folder in folders.items()}
            package = PackagedModel(provenance.method, description, folders, digests, golden_samples=None)
            yield f"{provenance.method} as trained in this workspace", package
            return
        raise SalonError(
            f"the weights that drew it (version {provenance.model_version}, sha256 "
            f"{(provenance.model_sha256 or 'unknown')[:12]}) are neither in {runs.public_uri(uri)} nor in "
            f"{trained}: go to the workspace that it came from, or name its registry by MLFLOW_TRACKING_URI"
        )


def _find_version(store: "Store", name: str, provenance: Provenance) -> "ModelVersion | None":
    """By the weights or, where the picture does not tell them, by number."""
    from mlflow.exceptions import MlflowException

    from salon.registry import versions

    if provenance.model_sha256 is not None:
        return versions.find_version(store, name, provenance.model_sha256)
    try:
        version = store.client.get_model_version(name, provenance.model_version)
    except MlflowException:
        return None  # no such number, or none at all
    return version if versions.has_files(store.client, version) else None


def _draw(provenance: Provenance, package: "PackagedModel") -> UInt8[np.ndarray, "h w 3"]:
    from salon.inference.model import ModelCache
    from salon.inference.request import read_requests

    options = ("prompt", "seed", "num_inference_steps", "guidance_scale")
    # the limits of a request hold: a forged record may ask for a year of steps
    (request,) = read_requests([{name: getattr(provenance, name) for name in options}])
    (picture,) = ModelCache().load(package, version=provenance.model_version).draw([request])
    return read_record(picture.png, name="the picture drawn again").pixels


def _difference(record: Record, again: UInt8[np.ndarray, "h w 3"]) -> str:
    if again.shape != record.pixels.shape:
        new, old = (f"{pixels.shape[1]}x{pixels.shape[0]}" for pixels in (again, record.pixels))
        return f"{new} pixels instead of {old}"
    distance = np.abs(again.astype(int) - record.pixels.astype(int)).max(axis=2)
    here = f"salon {salon.__version__}"
    drawn_by = f"; it was drawn by {record.software}, this is {here}" if record.software != here else ""
    return (
        f"{(distance > 0).sum()} of {distance.size} pixels differ, by {distance.max()} of 255 at most"
        f"{drawn_by}; another machine or library rounds otherwise"
    )


def _sentences(
    picture: Path, record: Record, credentials: Credentials | None, reproduction: Reproduction | None
) -> list[str]:
    drawn = record.provenance
    trusted = credentials is None or credentials.state == "trusted"
    trust = "" if trusted else ", whom this machine has no reason to trust"
    rows = {
        "prompt": drawn.prompt,
        "seed": drawn.seed,
        "model": f"salon-{drawn.method} version {drawn.model_version}",
        "weights": drawn.model_sha256 or "unknown",
        "data": drawn.data_sha256,
        "steps": OWN_VALUE if drawn.num_inference_steps is None else drawn.num_inference_steps,
        "guidance scale": OWN_VALUE if drawn.guidance_scale is None else drawn.guidance_scale,
        "credentials": "not signed" if credentials is None else f"signed by {credentials.signer}{trust}",
    }
    said = f"AI-generated by {record.software}; neither its text nor its pixels were changed since"
    lines = [f"{picture}: {said}"]
    # a prompt may hold what a terminal obeys
    lines += [f"  {name:<16}{NOT_PRINTABLE.sub(chr(0xFFFD), str(value))}" for name, value in rows.items()]
    if reproduction is not None:
        by = f" by {reproduction.model}" if reproduction.model else ""
        lines.append(f"drawn again{by}: {reproduction.verdict} ({reproduction.reason})")
    return lines
