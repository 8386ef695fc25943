"""A clone of the working tree in which DVC and salon run for real."""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from salon.commands import smoke
from salon.params import Params, load_params
from salon.paths import Paths

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Clone:
    """A clone of the working tree in which the pipeline ran."""

    paths: Paths
    seconds: dict[str, float] = field(default_factory=dict)
    """Per stage, in the order they ran."""

    @property
    def root(self) -> Path:
        return self.paths.root

    @property
    def params(self) -> Params:
        return load_params(self.paths.params)

    @property
    def store(self) -> str:
        return f"sqlite:///{self.root / 'mlflow.db'}"

    def run(self, module: str, *arguments: str) -> str:
        """Output of `python -m module arguments` in the clone, which must succeed."""
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=self.root,
            env=smoke.clone_environment(self.root),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr
