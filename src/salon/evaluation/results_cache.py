"""What an evaluation has done so far; killed and started again, it does nothing twice.

The folder is undeclared and git-ignored, since DVC deletes declared outs when a stage starts, and keyed by
all that determines the figures.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

from salon.files import read_json, write_json
from salon.fingerprint import KEY_DIGITS
from salon.weights import load_tensors, save_tensors


class ResultsCache:
    """Figures and pictures of one method by name, in one folder."""

    def __init__(self, parent: Path, name: str, *, key: str) -> None:
        self.name = name
        self.folder = parent / f"{name}-{key}"

    def figures(self, name: str, measure: Callable[[], Any]) -> Any:
        """What `measure` gave the first time, as JSON."""
        file = self.folder / f"{name}.json"
        if not file.is_file():
            write_json(file, measure())
        return read_json(file)

    def pictures(self, name: str, draw: Callable[[], UInt8[Tensor, "n 3 h w"]]) -> UInt8[Tensor, "n 3 h w"]:
        """What `draw` drew the first time."""
        file = self.folder / f"{name}.safetensors"
        if not file.is_file():
            save_tensors(file, {"pictures": draw()})
        return load_tensors(file)["pictures"]

    def discard(self) -> None:
        """Called when the results are safely written; what other inputs had left behind goes too."""
        for folder in self.folder.parent.glob(f"{self.name}-{'[0-9a-f]' * KEY_DIGITS}"):
            shutil.rmtree(folder, ignore_errors=True)
