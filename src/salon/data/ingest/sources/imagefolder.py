"""A folder of pictures: with `metadata.jsonl` or `metadata.csv` as Hugging Face `datasets` defines them, or
with a caption file of the same name beside each picture (`owl.png`, `owl.txt`; one caption a line).

    ingest:
      source: imagefolder
      path: data/raw/drawings

A metadata file names pictures relative to its own folder, in the column `file_name`. Folders called `train`,
`val` (or `validation`) and `test` are splits. Hidden files are left out.
"""

import csv
import os
from array import array
from collections.abc import Iterator
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from salon.data.ingest.images import PICTURE_EXTENSIONS, read_bytes
from salon.data.ingest.quarantine import Reason, Rejection
from salon.data.ingest.sources.base import (
    Caption,
    Found,
    Source,
    extension_of,
    fingerprint_folder,
    locate,
    readable,
    require_folder,
    split_of,
    walk,
)
from salon.data.ingest.sources.columns import describe, parse_record, require_columns
from salon.params.sources import CaptionedParams

NAME = "imagefolder"
METADATA = ("metadata.jsonl", "metadata.csv")
FILE_NAME = "file_name"
MAX_LINE_BYTES = 1_000_000  # of metadata, and of a caption file
NO_CAPTIONS = frozenset({"readme.txt", "licence.txt", "license.txt"})


def open_source(settings: CaptionedParams, *, path: Path) -> Source:
    """Look at the names of the files; read nothing but the metadata.

    Raises:
        SalonError: there is no such folder, or metadata without a column that the settings name.
    """
    root = require_folder(path, source=NAME)
    pictures, metadata = 0, []
    for folder, entries in walk(root):
        pictures += sum(_is_picture(entry.name) for entry in entries)
        metadata += [folder / entry.name for entry in entries if entry.name in METADATA]
    for file in metadata:
        if file.suffix == ".csv" and isinstance(locate(file.name, base=file.parent, root=root), Path):
            require_columns(_header(file), settings, where=readable(file, below=root))
    return Source(NAME, fingerprint_folder(root), partial(_find, root, metadata, settings), pictures)


def _find(root: Path, metadata: list[Path], settings: CaptionedParams) -> Iterator[Found]:
    listed = array("Q")  # hashes of the paths that metadata name: eight bytes a picture
    for file in metadata:
        where = readable(file, below=root)
        real = locate(file.name, base=file.parent, root=root)
        if isinstance(real, Rejection):
            yield Found(where, real)
            continue
        for line, record in _json_lines(file) if file.suffix == ".jsonl" else _csv_lines(file):
            yield _from_record(record, f"{where}:{line}", file.parent, root, settings, listed)
    known = np.unique(np.frombuffer(listed, dtype=np.uint64))
    for _, entries in walk(root):
        names = {entry.name for entry in entries}
        stems = set() if metadata else {Path(name).stem for name in names if _is_picture(name)}
        for entry in entries:
            place = Path(entry.path)
            if _is_picture(entry.name):
                if not _contains(known, _path_hash(entry.path)):
                    yield _from_file(place, names, root)
            elif entry.is_symlink() and entry.is_dir():
                problem = Rejection(Reason.OUTSIDE_SOURCE, "a linked folder is not entered")
                yield Found(readable(place, below=root), problem)
            elif not metadata and _is_caption_file(entry.name) and place.stem not in stems:
                yield _without_picture(place, root)


def _from_record(
    record: dict[str, Any] | Rejection,
    where: str,
    base: Path,
    root: Path,
    settings: CaptionedParams,
    listed: "array[int]",
) -> Found:
    if isinstance(record, Rejection):
        return Found(where, record)
    name = record.get(FILE_NAME)
    image = locate(name, base=base, root=root)
    split = None
    if isinstance(image, Path):
        place = os.path.normpath(f"{base}/{name}")
        listed.append(_path_hash(place))
        named = readable(place, below=root)
        where, split = f"{where} ({named})", split_of(named)
    return describe(record, settings).of(image, where, extension_of(str(name)), split=split)


def _from_file(place: Path, names: set[str], root: Path) -> Found:
    """A picture that no metadata name: its captions stand in a file beside it, if anywhere."""
    where = readable(place, below=root)
    image = locate(place.name, base=place.parent, root=root)
    captions: tuple[Caption, ...] | Rejection = (Caption(None),)
    if place.stem + ".txt" in names:
        captions = _read_captions(place.with_suffix(".txt"), root)
    if isinstance(captions, Rejection):
        return Found(where, captions, extension=extension_of(place.name))
    return Found(where, image, captions, extension_of(place.name), split_of(where))


def _without_picture(place: Path, root: Path) -> Found:
    captions = _read_captions(place, root)
    if isinstance(captions, Rejection):
        return Found(readable(place, below=root), captions)
    problem = Rejection(Reason.NO_PICTURE, "a caption file without a picture")
    return Found(readable(place, below=root), problem, captions)


def _read_captions(path: Path, root: Path) -> tuple[Caption, ...] | Rejection:
    """One caption a line."""
    real = locate(path.name, base=path.parent, root=root)
    if isinstance(real, Rejection):
        return Rejection(real.reason, f"its captions: {real.detail}")
    data = read_bytes(real, max_bytes=MAX_LINE_BYTES)
    if isinstance(data, Rejection):
        if data.reason is Reason.EMPTY_FILE:
            return (Caption(None),)
        too_long = data.reason is Reason.TOO_MANY_BYTES
        return Rejection(Reason.CAPTION_TOO_LONG if too_long else data.reason, f"{path.name}: {data.detail}")
    lines = data.removeprefix(b"\xef\xbb\xbf").splitlines()
    return tuple(Caption(line) for line in lines if line.strip()) or (Caption(None),)


def _json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | Rejection]]:
    with path.open("rb") as file:
        for number, line in enumerate(iter(partial(file.readline, MAX_LINE_BYTES), b""), start=1):
            if len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                yield number, Rejection(Reason.BAD_METADATA, f"a line of more than {MAX_LINE_BYTES} bytes")
                while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                    pass
            elif line.strip():
                yield number, parse_record(line.removeprefix(b"\xef\xbb\xbf"))


def _csv_lines(path: Path) -> Iterator[tuple[int, dict[str, Any] | Rejection]]:
    csv.field_size_limit(2**31 - 1)  # a field that is too long shall be named, not stop the reading
    # bytes that are not UTF-8 come through as lone surrogates, which the caption's check finds
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file)
        while True:
            try:
                record = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield reader.line_num, Rejection(Reason.BAD_METADATA, f"no CSV: {error}")
                continue
            if None in record:
                yield reader.line_num, Rejection(Reason.BAD_METADATA, "more fields than the header names")
            else:
                yield reader.line_num, record


def _header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        return next(csv.reader(file), [])


def _is_picture(name: str) -> bool:
    return extension_of(name) in PICTURE_EXTENSIONS


def _is_caption_file(name: str) -> bool:
    return extension_of(name) == "txt" and name.lower() not in NO_CAPTIONS


def _path_hash(path: str) -> int:
    return int.from_bytes(blake2b(os.fsencode(path), digest_size=8).digest(), "little")


def _contains(known: "np.ndarray[Any, np.dtype[np.uint64]]", value: int) -> bool:
    position = int(np.searchsorted(known, np.uint64(value)))
    return position < len(known) and int(known[position]) == value
