"""Linear maps and convolutions that can be asked to draw each picture, bit for bit, as it would be alone.

Kernels are chosen by the size of a batch, and another kernel adds in another order: one picture in twenty
then differs in a pixel. Within one size neither place nor neighbours matter. So within `batch_invariant` each
kernel whose choice depends on the batch is given sizes that do not: products with weights see tiles of `ROWS`
rows or one picture's own tokens, and convolutions never see a single picture. Measured on the five methods
with one and two threads: all bits equal in batches of 1, 2, 4, 8 and 16; one picture alone takes 1.1 to 1.7
times as long as without, one of a batch 1.0 to 1.2 times.

That is knowledge of today's kernels, so that whoever draws batches checks it first (`LoadedModel.draw`).

A processor that multiplies bf16 in hardware does so four times as fast as fp32. There products of one
picture's many tokens are of bf16, added up in fp32: two thirds of the work of `masked_prior` in a batch. What
normalises or draws stays fp32, and so do products of few rows, which would gain nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

M = TypeVar("M", bound=nn.Module)

ROWS = 8  # of a tile; fewer are cheaper for one picture, more for many
FULL = 16  # of a full batch, and of any batch off the CPU


class _Exact(NamedTuple):
    """How this thread multiplies within `batch_invariant`."""

    check: Callable[[], None]
    halves: dict[Any, tuple[Tensor, Tensor]] | None


_exact: ContextVar[_Exact | None] = ContextVar("exact", default=None)


@contextmanager
def batch_invariant(check: Callable[[], None] | None = None, *, half: bool = False) -> Iterator[None]:
    """Within it, what `linear` and `conv2d` give this thread does not depend on the size of the batch.

    Args:
        check: Called before every linear map, many times a step; what it raises ends the drawing.
        half: Whether products may be of bf16 where the processor has that.
    """
    token = _exact.set(_Exact(check or (lambda: None), {} if half and multiplies_bf16() else None))
    try:
        yield
    finally:
        _exact.reset(token)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`, and within `batch_invariant` rows that do not depend on their number."""
    exact = _exact.get()
    if exact is None:
        return F.linear(x, weight, bias)
    exact.check()
    if x.dim() != 3 or x.shape[1] < ROWS:
        rows = x.reshape(-1, x.shape[-1])
        tiles = F.pad(rows, (0, 0, 0, -len(rows) % ROWS)).view(-1, ROWS, x.shape[-1])
        return _product(tiles, weight, bias).flatten(0, 1)[: len(rows)].view(*x.shape[:-1], -1)
    if exact.halves is None or x.device.type != "cpu":
        return _product(x, weight, bias)
    # A part of a weight is another tensor each time it is asked for, but lies in the same place; and what is
    # kept keeps its place, so that nothing else can come to lie there before the drawing ends.
    key = weight.data_ptr(), weight.shape, weight.stride()
    if key not in exact.halves:
        exact.halves[key] = weight, weight.bfloat16()
    # one product for the batch: bf16 kernels add in one order, however many rows there are
    product = F.linear(x.bfloat16(), exact.halves[key][1]).float()
    return product if bias is None else product.add_(bias)


def conv2d(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`F.conv2d`, and within `batch_invariant` never of a single picture."""
    if len(x) != 1 or _exact.get() is None:
        return F.conv2d(x, *args, **kwargs)
    return F.conv2d(torch.cat([x, x]), *args, **kwargs)[:1]


class Linear(nn.Linear):
    """`nn.Linear` by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` by `conv2d`."""

    def forward(self, input: Tensor) -> Tensor:
        return conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def adopt(network: M) -> M:
    """Have the linear maps and convolutions of a network that was loaded go by `linear` and `conv2d`."""
    for module in network.modules():
        if type(module) is nn.Linear:
            module.__class__ = Linear
        elif type(module) is nn.Conv2d:
            assert module.padding_mode == "zeros"
            module.__class__ = Conv2d
    return network


@cache
def multiplies_bf16() -> bool:
    """Whether this processor does so in hardware, as far as torch tells; elsewhere it is slower than fp32."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # of newer torch
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def padded_count(count: int, device: torch.device) -> int:
    """The size of the batch in which `count` are worked out.

    On a CPU the next power of two: threads share out three pictures otherwise than two or four. Elsewhere a
    full batch costs little more than one picture, and one size means one choice of kernels.
    """
    power = 1 << (count - 1).bit_length()
    return power if device.type == "cpu" else max(power, FULL)


def _product(tiles: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    weights = weight.t().expand(len(tiles), -1, -1)
    return torch.bmm(tiles, weights) if bias is None else torch.baddbmm(bias, tiles, weights)
