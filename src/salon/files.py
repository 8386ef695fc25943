"""JSON files that are written whole or not at all."""

import json
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


def write_json(path: Path, value: Any) -> None:
    """Write `value` with sorted keys under a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    temporary.write_text(text + "\n", encoding="utf-8")
    temporary.replace(path)


def read_json(path: Path) -> Any:
    """Read a JSON file in UTF-8.

    Raises:
        NoJsonError: it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of the text or of its encoding
        raise NoJsonError(path, str(error)) from None
