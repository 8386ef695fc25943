"""A dataset of the Hugging Face hub, or a folder laid out like one, streamed through `datasets`.

    ingest:
      source: hub
      path: data/raw      # not read with an id; without one, the folder of the dataset
      hub: {id: user/drawings, revision: 1a2b3c4}

Nothing is kept of it but the ingested rows. Interrupted, it is streamed again from its beginning, but only
what is missing is decoded. DVC cannot see a hub: name a commit, and change it to ingest again.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from salon.data.ingest.quarantine import Reason, Rejection
from salon.data.ingest.sources.base import Found, Source, extension_of, fingerprint_folder, require_folder
from salon.data.ingest.sources.columns import describe, require_columns
from salon.data.ingest.sources.parquet import picture_of
from salon.errors import SalonError
from salon.params.sources import HubParams

NAME = "hub"


def open_source(settings: HubParams, *, path: Path) -> Source:
    """Ask for the dataset's splits and columns.

    Raises:
        SalonError: it cannot be reached or read, or lacks a column that the settings name.
    """
    if settings.id is None:
        root = require_folder(path, source=NAME)
        revision, fingerprint = None, fingerprint_folder(root)
    else:
        root = None
        revision = fingerprint = _commit(settings)
    splits = _load(settings, root, revision)
    total: int | None = 0
    for split in splits.values():
        counts = split.info.splits or {}
        rows = counts[split.split].num_examples if split.split in counts else None
        total = None if total is None or not rows else total + rows
    return Source(NAME, fingerprint, partial(_find, splits, settings, root), total)


def _commit(settings: HubParams) -> str:
    """The commit that the revision stands for today."""
    from huggingface_hub import HfApi

    try:
        sha = HfApi().dataset_info(str(settings.id), revision=settings.revision).sha
    except Exception as error:
        raise SalonError(_unreachable(settings, error)) from None
    return str(sha)


def _load(settings: HubParams, root: Path | None, revision: str | None) -> dict[str, Any]:
    try:
        import datasets
    except ImportError:
        raise SalonError("source hub needs the package datasets: pip install -e '.[hub]'") from None
    try:
        splits = datasets.load_dataset(
            str(root or settings.id), settings.config, revision=revision, streaming=True
        )
        # a streamed folder knows its columns only when it is asked
        splits = {name: split._resolve_features() for name, split in splits.items()}
        for split in splits.values():
            names = split.column_names or []
            require_columns(names, settings, where=_name(settings, root), pictures_of=NAME)
        encoded = datasets.Image(decode=False)
        return {name: split.cast_column(settings.columns.image, encoded) for name, split in splits.items()}
    except SalonError:
        raise
    except Exception as error:
        raise SalonError(_unreachable(settings, error, root)) from None


def _find(splits: dict[str, Any], settings: HubParams, root: Path | None) -> Iterator[Found]:
    for name, split in splits.items():
        number = 0
        try:
            for record in split:
                yield _describe(record, f"{name}: row {number}", name, settings, root)
                number += 1
        except (OSError, ValueError, ConnectionError) as error:
            raise SalonError(
                f"{_name(settings, root)}, split {name}: reading stopped after {number} rows ({error}). Run "
                "the stage again: it goes on from there"
            ) from None


def _describe(
    record: dict[str, Any], where: str, split: str, settings: HubParams, root: Path | None
) -> Found:
    cell = record.get(settings.columns.image)
    path = cell.get("path") if isinstance(cell, dict) else None
    image: Path | bytes | Rejection
    if root is None and isinstance(cell, dict) and cell.get("bytes") is None and "://" in str(path):
        image, name = _fetch(str(path), settings), str(path)
    else:
        # `datasets` gives files of a local folder by their whole paths
        if isinstance(cell, dict) and root and Path(str(path)).is_relative_to(root):
            cell = cell | {"path": Path(str(path)).relative_to(root).as_posix()}
        image, name = picture_of(cell, base=root or Path(), root=root or Path("/nowhere"))
    return describe(record, settings).of(image, where, extension_of(name), split=split)


def _fetch(address: str, settings: HubParams) -> bytes | Rejection:
    """A picture that stands as a file of its own on the hub."""
    import fsspec

    try:
        with fsspec.open(address, "rb") as file:
            data: bytes = file.read(settings.max_bytes + 1)
    except FileNotFoundError:
        return Rejection(Reason.NO_PICTURE, f"{address} does not exist")
    return data


def _name(settings: HubParams, root: Path | None) -> str:
    return str(root) if settings.id is None else f"the dataset {settings.id}"


def _unreachable(settings: HubParams, error: Exception, root: Path | None = None) -> str:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    if settings.id is None:
        return f"{root} is no dataset that `datasets` can read ({reason})"
    return (
        f"the dataset {settings.id} cannot be read from the hub ({reason}): check its name, the network and, "
        "for a private one, HF_TOKEN; or download it and name its folder (ingest.path without ingest.hub.id)"
    )
