"""Tar shards as img2dataset writes them: `000000012.jpg`, `.txt` and `.json` stand one after another.

    ingest:
      source: webdataset
      path: data/raw/laion      # holds 00000.tar, 00001.tar …

The caption is the `.txt` member, or else a key of the `.json` one, which also gives attributes and
provenance. A folder or a shard whose name begins with `train`, `val` or `test` is that split. Nothing is
unpacked: worker processes read a picture from its place in the shard.
"""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from salon.data.ingest.images import PICTURE_EXTENSIONS, ByteRange
from salon.data.ingest.quarantine import Reason, Rejection
from salon.data.ingest.sources.base import (
    Caption,
    Found,
    Source,
    fingerprint_files,
    readable,
    require_folder,
    split_of,
)
from salon.data.ingest.sources.columns import describe, parse_record
from salon.errors import SalonError
from salon.params.sources import CaptionedParams

NAME = "webdataset"
MAX_TEXT_BYTES = 1_000_000  # of a caption or a JSON member


def open_source(settings: CaptionedParams, *, path: Path) -> Source:
    """Find the shards.

    Raises:
        SalonError: there is no such folder, or no shard in it.
    """
    root = require_folder(path, source=NAME)
    shards = sorted(shard for shard in root.rglob("*.tar") if not shard.name.startswith("."))
    if not shards:
        raise SalonError(f"{path} holds no .tar file: ingest.path must name the folder of the shards")
    find = partial(_find, root, shards, settings)
    return Source(NAME, fingerprint_files(shards, below=root), find, _count(shards))


def _count(shards: list[Path]) -> int | None:
    """Pictures in all shards, as img2dataset notes them beside each; unknown where one has no such note."""
    total = 0
    for shard in shards:
        try:
            total += int(json.loads(shard.with_name(f"{shard.stem}_stats.json").read_bytes())["successes"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
    return total


def _find(root: Path, shards: list[Path], settings: CaptionedParams) -> Iterator[Found]:
    for shard in shards:
        where = readable(shard, below=root)
        if not shard.resolve().is_relative_to(root):
            yield Found(where, Rejection(Reason.OUTSIDE_SOURCE, "a link that leads out of the source"))
        elif not shard.is_file():
            yield Found(where, Rejection(Reason.NOT_A_FILE))
        else:
            yield from _find_in(shard.resolve(), where, settings)


def _find_in(shard: Path, where: str, settings: CaptionedParams) -> Iterator[Found]:
    sample: dict[str, Any] = {}
    key = None
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                problem = _suspicion(member)
                if problem is not None:
                    yield Found(f"{where}: {member.name}", problem)
                    continue
                if not member.isfile():
                    continue
                name, extension = _key(member.name)
                if name != key or extension in sample:
                    yield from _complete(key, sample, where, settings)
                    key, sample = name, {}
                sample[extension] = _content(archive, member, shard, extension)
            yield from _complete(key, sample, where, settings)
            sample = {}
            _require_end(archive, shard)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        yield from _complete(key, sample, where, settings)
        yield Found(where, Rejection(Reason.DAMAGED_FILE, f"no tar file to its end: {error}"))


def _require_end(archive: tarfile.TarFile, shard: Path) -> None:
    """`tarfile` takes an archive that stops between two members for a whole one."""
    with shard.open("rb") as file:
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE) != tarfile.NUL * tarfile.BLOCKSIZE:
            raise tarfile.ReadError("the end is missing")


def _suspicion(member: tarfile.TarInfo) -> Rejection | None:
    """What no honest shard holds."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name:
        return Rejection(Reason.OUTSIDE_SOURCE, "the member's path leads out of the shard")
    if member.issym() or member.islnk():
        return Rejection(Reason.OUTSIDE_SOURCE, f"a link to {member.linkname!r}")
    if not member.isfile() and not member.isdir():
        return Rejection(Reason.NOT_A_FILE, "a pipe or a device")
    return None


def _key(name: str) -> tuple[str, str]:
    """What members of one sample share, and the rest: cut at the first dot of the file's name."""
    folder, _, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return f"{folder}/{stem}" if folder else stem, extension.lower()


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, shard: Path, extension: str) -> Any:
    if extension in PICTURE_EXTENSIONS:
        return ByteRange(shard, member.offset_data, member.size)
    if extension not in ("txt", "json"):
        return None  # what else travels in shards is not read
    if member.size > MAX_TEXT_BYTES:
        return Rejection(Reason.CAPTION_TOO_LONG, f".{extension} of {member.size} bytes")
    file = archive.extractfile(member)
    data = file.read() if file else b""
    if len(data) < member.size:
        raise EOFError("it ends within a member")
    return data


def _complete(
    key: str | None, sample: dict[str, Any], shard: str, settings: CaptionedParams
) -> Iterator[Found]:
    """What the members of one key say."""
    extension = next((name for name in sample if name in PICTURE_EXTENSIONS), "")
    if key is None or not (extension or {"txt", "json"} & sample.keys()):
        return
    where = f"{shard}: {key}" + (f".{extension}" if extension else "")
    record = sample.get("json", {})
    if isinstance(record, bytes):
        record = parse_record(record)
    text = sample.get("txt")
    problem = next((value for value in (record, text) if isinstance(value, Rejection)), None)
    if isinstance(record, Rejection):
        record = {}
    image = sample[extension] if extension else Rejection(Reason.NO_PICTURE, "no picture of this key")
    said = describe(record, settings)
    if isinstance(text, bytes) and settings.columns.caption is None:
        said = replace(said, captions=(Caption(text, said.captions[0].lang),))
    if problem is not None:
        said = replace(said, problem=problem)
    yield said.of(image, where, extension, split=split_of(f"{shard}/{key}"))
