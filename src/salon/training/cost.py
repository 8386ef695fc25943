"""What a training may cost and did cost: FLOPs counted, not estimated, so that budgets are equal."""

import copy
import resource
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from salon.errors import SalonError
from salon.files import read_json
from salon.paths import Paths

M = TypeVar("M", bound=nn.Module)

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


def whole_cost(own: TrainingCost, shared: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What a method cost, with its share of the stages before it."""
    flops, minutes = (sum(cost[key] for cost in shared.values()) for key in ("train_flops", "train_minutes"))
    return {
        "own": asdict(own),
        "shared": shared,
        "train_flops": own.train_flops + flops,
        "train_minutes": round(own.train_minutes + minutes, 3),
        "parameters": own.parameters,
    }


def peak_memory_gb(device: torch.device) -> float:
    """Largest memory that this process has held: of the GPU if `device` is one, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def count_step_flops(module: M, loss: Callable[[M], Tensor]) -> int:
    """FLOPs of one forward and backward pass of `loss(module)`, counted on a copy of `module`.

    Matrix products, convolutions and attention are counted (a multiply-add is two FLOPs); element-wise work
    and the optimizer are not.
    """
    twin = copy.deepcopy(module)
    with _counted() as counter, torch.random.fork_rng():
        loss(twin).backward()
    return counter.get_total_flops()


def count_forward_flops(forward: Callable[[], Any]) -> int:
    """FLOPs of `forward()`, counted likewise, without a backward pass."""
    with _counted() as counter, torch.no_grad():
        forward()
    return counter.get_total_flops()


@contextmanager
def _counted() -> Iterator[FlopCounterMode]:
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = _OneTotal()  # type: ignore[assignment]
    # the counter does not know the fused attention of CPUs; spelled out it is two matrix products
    with counter, sdpa_kernel(SDPBackend.MATH):
        yield counter


class _OneTotal:
    """In place of the tracker of modules, whose hooks do not stand `autograd.grad` within a forward pass."""

    parents = frozenset({"Global"})

    def __enter__(self) -> "_OneTotal":
        return self

    def __exit__(self, *_: object) -> None:
        return


def steps_within(budget_flops: float, *, shared_flops: float, step_flops: float, name: str) -> int:
    """Optimizer steps that the budget leaves once the shared stages are paid.

    Raises:
        SalonError: nothing is left.
    """
    steps = int((budget_flops - shared_flops) // step_flops)
    if steps < 1:
        raise SalonError(
            f"method {name!r}: budget.train_flops = {budget_flops:.3g} does not cover the shared stages "
            f"({shared_flops:.3g} FLOPs) and one training step ({step_flops:.3g}): raise it"
        )
    return steps
