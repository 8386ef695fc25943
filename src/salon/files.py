"""Files and folders that are written whole or not at all, JSON among them, and their digests."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from salon.errors import SalonError


class NoJsonError(SalonError, ValueError):
    """A file that should hold JSON does not; `reason` is what the parser says of `path`."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path} is not JSON ({reason}): put it back, or delete it and run again what writes it"
        )
        self.path, self.reason = path, reason


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, which takes the place of `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # two processes may write the same
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder`, which takes its place when the block ends well.

    By two renames, so that a kill cannot leave a folder that is half deleted.
    """
    part, replaced = folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.old")
    for leftover in (part, replaced):
        shutil.rmtree(leftover, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if folder.exists():
            folder.rename(replaced)
        part.rename(folder)
    finally:
        for leftover in (part, replaced):
            shutil.rmtree(leftover, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` in UTF-8."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, *, sort_keys: bool = True) -> None:
    """Write `value`, indented."""
    text = json.dumps(value, indent=2, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file in UTF-8.

    Raises:
        NoJsonError: it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of the text or of its encoding
        raise NoJsonError(path, str(error)) from None


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digests(folder: Path) -> dict[str, str]:
    """`file_sha256` of every file below `folder`, by its relative path; compiled Python is nobody's."""
    return {
        path.relative_to(folder).as_posix(): file_sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def lines_sha256(lines: Iterable[str]) -> str:
    """sha256 of lines of text, in hexadecimal."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
