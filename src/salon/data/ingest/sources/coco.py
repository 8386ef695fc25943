"""COCO captions: `captions_*.json` with a folder of pictures, several captions a picture.

    ingest:
      source: coco
      path: data/raw/coco      # holds annotations/captions_val2017.json and val2017/

A file called `captions_train…` or `captions_val…` names its split. Columns are keys of a picture's entry and
of its annotations; the licence comes from the file's own list of them.
"""

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from salon.data.ingest.quarantine import Reason, Rejection
from salon.data.ingest.sources.base import (
    Found,
    Source,
    extension_of,
    fingerprint_folder,
    locate,
    readable,
    require_folder,
    split_of,
)
from salon.data.ingest.sources.columns import Described, describe
from salon.errors import SalonError
from salon.params.sources import CocoParams

NAME = "coco"
Entry = dict[str, Any]


def open_source(settings: CocoParams, *, path: Path) -> Source:
    """Find the caption files.

    Raises:
        SalonError: there is no such folder, no caption file, or one that is not COCO's.
    """
    root = require_folder(path, source=NAME)
    files = sorted(root.glob(settings.annotations))
    if not files:
        raise SalonError(f"{path} has no file {settings.annotations}: set ingest.coco.annotations")
    total = sum(len(_read(file)["images"]) for file in files)
    return Source(NAME, fingerprint_folder(root), partial(_find, root, files, settings), total)


def _find(root: Path, files: list[Path], settings: CocoParams) -> Iterator[Found]:
    for file in files:
        yield from _find_in(file, root, settings)


def _find_in(file: Path, root: Path, settings: CocoParams) -> Iterator[Found]:
    content = _read(file)
    where = readable(file, below=root)
    split = split_of(file.name.removeprefix("captions_"))
    folder = _picture_folder(file, root, settings)
    licences = {
        entry["id"]: str(entry.get("name") or entry.get("url") or "")
        for entry in content.get("licenses") or []
        if isinstance(entry, dict) and isinstance(entry.get("id"), int | str)
    }
    annotations: dict[Any, list[Entry]] = {}
    for number, entry in enumerate(content["annotations"]):
        if not isinstance(entry, dict) or not isinstance(entry.get("image_id"), int | str):
            yield Found(f"{where}: annotation {number}", Rejection(Reason.BAD_METADATA, "no image_id"))
            continue
        annotations.setdefault(entry["image_id"], []).append(entry)
    for number, image in enumerate(content["images"]):
        place = f"{where}: image {number}"
        if not isinstance(image, dict) or not isinstance(image.get("id"), int | str):
            yield Found(place, Rejection(Reason.BAD_METADATA, "no id"))
            continue
        said = _describe(image, annotations.pop(image["id"], [{}]), licences, settings)
        name = image.get("file_name")
        picture = locate(name, base=folder, root=root)
        place = f"{where}: image id {image['id']} ({name})"
        yield said.of(picture, place, extension_of(str(name)), split=split)
    for identity, entries in annotations.items():
        detail = f"no image has id {identity!r}, or an earlier one took its captions"
        record = {"caption": [entry.get("caption") for entry in entries]}
        captions = describe(record, CocoParams()).captions
        yield Found(f"{where}: image id {identity}", Rejection(Reason.NO_PICTURE, detail), captions)


def _describe(
    image: Entry, annotations: list[Entry], licences: dict[Any, str], settings: CocoParams
) -> Described:
    # each annotation has one caption, in its own language
    each = [describe(image | annotation, settings) for annotation in annotations]
    said = describe(annotations[0] | image, settings)
    licence = image.get("license")
    # where the picture came from is the one thing that COCO tells of its author
    address = image.get("flickr_url") or image.get("coco_url")
    return replace(
        said,
        captions=tuple(caption for one in each for caption in one.captions),
        licence=said.licence or (licences.get(licence) if isinstance(licence, int | str) else None),
        attribution=said.attribution or (str(address) if address else None),
        problem=next((one.problem for one in each if one.problem), None),
    )


def _picture_folder(file: Path, root: Path, settings: CocoParams) -> Path:
    """
    Raises:
        SalonError: the settings name one that is not there, or not below `root`.
    """
    if settings.images is not None:
        folder = (root / settings.images).resolve()
        if not folder.is_dir() or not folder.is_relative_to(root):
            raise SalonError(f"ingest.coco.images: {root} has no folder {settings.images!r}")
        return folder
    named = file.stem.removeprefix("captions_")
    likely = (root / named, root / "images" / named, root / "images")
    return next((folder for folder in likely if folder.is_dir()), root)


def _read(file: Path) -> Entry:
    try:
        content = json.loads(file.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise SalonError(f"{file} is no JSON that can be read: {error}") from None
    lists = ("images", "annotations")
    if not isinstance(content, dict) or not all(isinstance(content.get(name), list) for name in lists):
        raise SalonError(f"{file} is no file of COCO captions: it needs the lists images and annotations")
    return content
