"""One digest of all that a result depends on, so that a kept result is found again, and never a stale one."""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
KEY_DIGITS = 16


def fingerprint(settings: Any, *, files: Iterable[Path] = (), sources: Iterable[str] = ()) -> str:
    """16 hex digits of settings, of the content of files and folders, and of sources of Salon.

    Args:
        settings: Anything that JSON can hold.
        files: Files, and folders of files; what is missing counts as empty.
        sources: Files and folders below `src/salon` whose code makes the result.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for path in files:
        digest.update(_digest(path).encode())
    for source in sources:
        digest.update(_digest_code(PACKAGE / source).encode())
    return digest.hexdigest()[:KEY_DIGITS]


@cache
def _digest_code(path: Path) -> str:
    """Read once: a process runs the code that it started with, whatever is edited meanwhile."""
    return _digest(path)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in found:
        if "__pycache__" in file.parts:
            continue
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{path.name}/{file.relative_to(path)} {content}\n".encode())
    return digest.hexdigest()
