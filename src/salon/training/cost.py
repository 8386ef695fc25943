"""What a training cost."""

import resource
import sys
from dataclasses import dataclass, field

import torch


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


def peak_memory_gb(device: torch.device) -> float:
    """Largest memory that this process has held: of the GPU if `device` is one, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
