"""Equal budgets: training FLOPs counted, not estimated."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from salon.errors import SalonError

M = TypeVar("M", bound=nn.Module)


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
    # the counter does not know the fused attention of CPUs; spelled out it is two matrix products
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        yield counter


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
