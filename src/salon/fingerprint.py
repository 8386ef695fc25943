"""One digest of all that a result depends on, so that a kept result is found again, and never a stale one."""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from salon.files import file_digests, file_sha256, lines_sha256

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
    digests = {"": file_sha256(path)} if path.is_file() else file_digests(path)
    return lines_sha256(f"{path.name}/{name} {digest}" for name, digest in digests.items())
