"""What a source of one's own pictures tells of a row, before anybody looked at the bytes."""

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from pathlib import Path

from salon.data.ingest.images import ByteRange
from salon.data.ingest.quarantine import Reason, Rejection
from salon.errors import SalonError
from salon.params import IngestParams

# what folders, files and columns call the splits, as Hugging Face `datasets` understands them
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
    "novel": "novel",
}


@dataclass(frozen=True)
class Caption:
    """One caption as the source has it."""

    raw: object
    """Text or UTF-8 bytes; whatever else stands there is refused later."""
    lang: str | None = None
    """Its language tag, where the source says."""


@dataclass(frozen=True)
class Found:
    """One picture with its captions: as many rows as it has captions, and one where it has none."""

    where: str
    """How the source's owner finds it again: a file, a line, a member of an archive."""
    image: Path | ByteRange | bytes | Rejection
    captions: tuple[Caption, ...] = (Caption(None),)
    extension: str = ""
    """What its name claims to be, without the dot; empty where it has no name."""
    split: str | None = None
    """What the source calls its split."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    licence: str | None = None
    attribution: str | None = None


@dataclass(frozen=True)
class Source:
    """A source, opened."""

    name: str
    """What the column `source` says."""
    fingerprint: str
    """Another one when the content changed: an interrupted ingestion goes on only where it is the same."""
    find: Callable[[], Iterator[Found]]
    """Every picture, in an order that depends on the content alone."""
    total: int | None = None
    """Pictures, where that is known beforehand."""


def open_source(params: IngestParams, *, path: Path) -> Source:
    """Open the chosen source: the function of this name in the module of its name, with its own settings.

    Raises:
        SalonError: it cannot be read, or lacks what the settings name.
    """
    module = import_module(f"salon.data.ingest.sources.{params.source}")
    source: Source = module.open_source(params.settings, path=path)
    return source


def require_folder(path: Path, *, source: str) -> Path:
    """The folder that a source reads, with links resolved.

    Raises:
        SalonError: it is not there, or is no folder.
    """
    if not path.is_dir():
        problem = "is not a folder" if path.exists() else "does not exist"
        raise SalonError(f"{path} {problem}: ingest.path must name the folder that source {source} reads")
    return path.resolve()


def walk(folder: Path) -> Iterator[tuple[Path, list[os.DirEntry[str]]]]:
    """Folders below `folder` with their entries, both sorted; hidden ones left out, links not entered."""
    with os.scandir(folder) as listing:
        entries = sorted((e for e in listing if not e.name.startswith(".")), key=lambda entry: entry.name)
    yield folder, entries
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from walk(Path(entry.path))


def fingerprint_files(paths: Iterable[Path | os.DirEntry[str]], *, below: Path) -> str:
    """Digest of names, sizes and times of change: quick, and it changes when a file does."""
    digest = hashlib.sha256()
    for path in paths:
        facts = path.stat(follow_symlinks=False)
        name = os.fspath(path)[len(os.fspath(below)) :]
        digest.update(os.fsencode(f"{name}\0{facts.st_size}\0{facts.st_mtime_ns}\n"))
    return digest.hexdigest()


def fingerprint_folder(folder: Path) -> str:
    """Of every file below `folder`."""
    files = (
        entry for _, entries in walk(folder) for entry in entries if not entry.is_dir(follow_symlinks=False)
    )
    return fingerprint_files(files, below=folder)


def locate(name: object, *, base: Path, root: Path) -> Path | Rejection:
    """The file that metadata in folder `base` names, if it lies inside `root`; links are followed to see.

    `root` is a resolved path.
    """
    if not isinstance(name, str) or not name.strip():
        return Rejection(Reason.NO_PICTURE, "no file is named")
    if "\0" in name:
        return Rejection(Reason.OUTSIDE_SOURCE, "a NUL byte in the path")
    # paths of both kinds of system; plain text, for pathlib takes longer than reading the picture
    if name[0] in "/\\" or name[1:2] == ":":
        return Rejection(Reason.OUTSIDE_SOURCE, f"{name!r} is an absolute path")
    if ".." in re.split(r"[/\\]", name):
        return Rejection(Reason.OUTSIDE_SOURCE, f"{name!r} leads upwards")
    try:
        folder, _, file = f"{base}/{name}".rpartition("/")
        mode = os.lstat(f"{folder}/{file}").st_mode
        is_plain = stat.S_ISREG(mode)
        real = _real_folder(folder) / file if is_plain else Path(folder, file).resolve(strict=True)
    except FileNotFoundError:
        return Rejection(Reason.NO_PICTURE, f"{name!r} does not exist")
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, links in a circle
        return Rejection(Reason.UNREADABLE, f"{name!r}: {getattr(error, 'strerror', None) or error}")
    if not os.fspath(real).startswith(f"{root}{os.sep}"):
        return Rejection(Reason.OUTSIDE_SOURCE, f"{name!r} is a link that leads out of the source")
    return real if is_plain or real.is_file() else Rejection(Reason.NOT_A_FILE, f"{name!r}")


@lru_cache(maxsize=4096)
def _real_folder(folder: str) -> Path:
    """Pictures stand many in a folder, whose links are followed once."""
    return Path(folder).resolve(strict=True)


def extension_of(name: str) -> str:
    """Of a file's name, in lower case and without the dot."""
    stem, _, extension = name.rpartition("/")[2].rpartition(".")
    return extension.lower() if stem else ""


def split_of(path: str) -> str | None:
    """The split that a relative path names: by a folder, or by how the file's name begins."""
    *folders, name = path.split("/")
    for part in (*folders, re.split(r"[-_.0-9]", name, maxsplit=1)[0]):
        if part.lower() in SPLIT_NAMES:
            return part
    return None


def readable(path: Path | str, *, below: Path) -> str:
    """The path relative to `below`, as text that can be stored whatever its bytes are."""
    relative = os.fspath(path)[len(os.fspath(below)) + 1 :]
    return os.fsencode(relative).decode("utf-8", "backslashreplace")
