"""The one folder that a registered model carries: weights, card, and a manifest that proves them whole."""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from salon.errors import SalonError
from salon.jsonfile import read_json, write_json

MANIFEST = "manifest.json"
CARD = "card.md"
METHOD = "method"
CLIP = "clip"
CODEC = "codec"


def write_bundle(
    folder: Path, *, method: Path, clip: Path, codec: Path, card: str, description: Mapping[str, Any]
) -> None:
    """Copy the weights of a method, its codec and the towers, and write card and manifest."""
    shutil.copytree(method, folder / METHOD)
    shutil.copytree(clip, folder / CLIP)
    shutil.copytree(codec, folder / CODEC)
    (folder / CARD).write_text(card, encoding="utf-8")
    write_json(folder / MANIFEST, {**description, "files": file_digests(folder)})


def read_bundle(folder: Path) -> dict[str, Any]:
    """The manifest, after every file was found to be what it says.

    Raises:
        SalonError: a file is missing, added or changed.
    """
    try:
        manifest = read_json(folder / MANIFEST)
        expected = manifest["files"]
    except (OSError, ValueError, KeyError):
        raise SalonError(f"the model has no readable {MANIFEST}: register it again") from None
    found = {name: digest for name, digest in file_digests(folder).items() if name != MANIFEST}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise SalonError(
            f"the model is damaged: {', '.join(wrong[:3])} differ from {MANIFEST}; register it again"
        )
    return manifest


def file_digests(folder: Path) -> dict[str, str]:
    """sha256 of every file below `folder`, by its relative path."""
    return {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
