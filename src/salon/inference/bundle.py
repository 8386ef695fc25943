"""The one folder that a registered model carries: weights, card, and a manifest that proves them whole.

A bundle holds one method, or all champions. Parts that several of these share are stored once: every part
(a method's own weights, a codec, the towers) is a folder named after its content.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from salon.errors import SalonError
from salon.files import file_digests, lines_sha256, read_json, write_json

MANIFEST, CARD = "manifest.json", "card.md"
PARTS = METHOD, CLIP, CODEC = "method", "clip", "codec"
GOLDEN_SAMPLES_FILE = "probes.json"
SUFFIXES = {".json", ".md", ".safetensors", ".txt"}  # data that cannot run; a pickle can


@dataclass(frozen=True)
class PackagedModel:
    """One method of a bundle: where its parts lie, and what is known of it."""

    name: str
    description: Mapping[str, Any]
    folders: Mapping[str, Path]
    digests: Mapping[str, str]
    """What each part holds: equal digests are equal files."""
    golden_samples: Path | None
    """Pictures that it drew when it was registered; None in a bundle from before there were any."""


def write_bundle(
    folder: Path, *, method: Path, clip: Path, codec: Path, card: str, description: Mapping[str, Any]
) -> None:
    """Copy the weights of a method, its codec and the towers, and write card and manifest."""
    for part, source in {METHOD: method, CLIP: clip, CODEC: codec}.items():
        shutil.copytree(source, folder / part)
    (folder / CARD).write_text(card, encoding="utf-8")
    write_manifest(folder, description)


def write_manifest(folder: Path, description: Mapping[str, Any]) -> None:
    """Write the manifest, or write it again after files were added."""
    (folder / MANIFEST).unlink(missing_ok=True)
    write_json(folder / MANIFEST, {**description, "files": file_digests(folder)})


def merge_bundles(folder: Path, bundles: Sequence[Path], *, versions: Mapping[str, str], card: str) -> None:
    """One bundle of several that hold one method each, in this order, and are these registered versions."""
    methods: dict[str, Any] = {}
    for bundle in bundles:
        ((name, package),) = read_models(bundle).items()
        parts = {}
        for part, source in package.folders.items():
            parts[part] = f"{part}-{package.digests[part][:16]}"
            if not (folder / parts[part]).exists():
                shutil.copytree(source, folder / parts[part])
        if package.golden_samples is not None:
            parts["probes"] = f"probes-{name}.json"
            shutil.copyfile(package.golden_samples, folder / parts["probes"])
        methods[name] = {**package.description, "version": versions[name], "parts": parts}
    (folder / CARD).write_text(card, encoding="utf-8")
    write_manifest(folder, {"methods": methods, "order": list(methods)})


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
    found = file_digests(folder)
    del found[MANIFEST]
    if wrong := sorted(name for name in expected.keys() | found if expected.get(name) != found.get(name)):
        raise SalonError(
            f"the model is damaged: {', '.join(wrong[:3])} differ from {MANIFEST}; register it again"
        )
    if foreign := sorted(name for name in found if Path(name).suffix not in SUFFIXES):
        raise SalonError(
            f"the model holds {', '.join(foreign[:3])}: only safetensors and plain text are loaded, since "
            "anything else may run code; register it again"
        )
    return manifest


def read_models(folder: Path) -> dict[str, PackagedModel]:
    """The methods of a bundle by name, in the order of naming; a SalonError where `read_bundle` has one."""
    manifest = read_bundle(folder)
    files = manifest.pop("files")
    methods = manifest.get("methods")
    if methods is None:  # one method, whose parts have no names of their own
        own = {"probes": GOLDEN_SAMPLES_FILE} if GOLDEN_SAMPLES_FILE in files else {}
        methods = {manifest["method"]: {**manifest, "parts": {part: part for part in PARTS} | own}}
    packages = {}
    for name in manifest.get("order", list(methods)):
        parts = methods[name].pop("parts")
        packages[name] = PackagedModel(
            name=name,
            description=methods[name],
            folders={part: folder / parts[part] for part in PARTS},
            digests={part: _part_digest(files, parts[part]) for part in PARTS},
            golden_samples=folder / parts["probes"] if "probes" in parts else None,
        )
    return packages


def _part_digest(files: Mapping[str, str], part: str) -> str:
    prefix = f"{part}/"
    lines = [f"{name.removeprefix(prefix)} {sha}" for name, sha in files.items() if name.startswith(prefix)]
    return lines_sha256(sorted(lines))
