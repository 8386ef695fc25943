"""What a training cost, and what the trainings before it cost."""

import resource
import sys
from dataclasses import dataclass, field
from typing import Any

import torch

from salon.files import read_json
from salon.paths import Paths

LEDGER = "training.json"
"""Beside the weights: what their training cost."""


@dataclass(frozen=True)
class TrainingCost:
    """What one training cost, its own part only."""

    steps: int
    train_flops: int
    train_minutes: float
    images_seen: int
    parameters: int
    peak_memory_gb: float
    precision: str
    device: str
    warnings: list[str] = field(default_factory=list)
    """What the method found wrong with its own training."""


def codec_costs(paths: Paths, codec: str) -> dict[str, dict[str, Any]]:
    """What a codec cost and all that it started from; `pixels` is not trained."""
    ledger = paths.codec(codec) / LEDGER
    if not ledger.is_file():
        return {}
    spent = read_json(ledger)
    return spent["shared"] | {f"codec-{codec}": spent["own"]}


def shared_costs(paths: Paths, codec: str) -> dict[str, dict[str, Any]]:
    """What the stages before a method cost: the towers, and the codec with all that it started from."""
    return {"clip": read_json(paths.clip_metrics)["cost"]} | codec_costs(paths, codec)


def peak_memory_gb(device: torch.device) -> float:
    """Largest memory that this process has held: of the GPU if `device` is one, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
