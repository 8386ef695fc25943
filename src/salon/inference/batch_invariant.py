"""Batches whose pictures are, bit for bit, what each would be alone.

Kernels are chosen by the size of a batch, and another kernel adds in another order: one picture in twenty
then differs in a pixel. Within one size neither place nor neighbours matter. So each kernel whose choice
depends on the batch is given sizes that do not: products with weights see tiles of `ROWS` rows or one
picture's own tokens, and convolutions never see a single picture. Measured on the five methods with one and
two threads: all bits equal in batches of 1, 2, 4, 8 and 16; one picture alone takes 1.1 to 1.7 times as long
as without, one of a batch 1.0 to 1.2 times.

That is knowledge of today's kernels, so that whoever draws batches checks it first (`Champion.draw`).

A processor that multiplies bf16 in hardware does so four times as fast as fp32. There products of one
picture's many tokens are of bf16, added up in fp32: two thirds of the work of `vqvae` in a batch. What
normalises or draws stays fp32, and so do products of few rows, which would gain nothing.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

ROWS = 8  # of a tile; fewer are cheaper for one picture, more for many
FULL = 16  # of a full batch, and of any batch off the CPU

_linear, _conv2d = F.linear, F.conv2d
_installing = threading.Lock()
_users = 0  # threads within `batch_invariant`
_here = threading.local()


@contextmanager
def batch_invariant(check: Callable[[], None] | None = None, *, half: bool = False) -> Iterator[None]:
    """Within it, linear maps and convolutions of this thread do not depend on the size of the batch.

    A mode of torch (`TorchFunctionMode`) would do the same for every operation, at twice the time of a
    sampler of many small ones; so the two functions are exchanged while any thread needs it.

    Args:
        check: Called before every linear map, many times a step; what it raises ends the drawing.
        half: Whether products may be of bf16 where the processor has that.
    """
    global _users
    with _installing:
        _users += 1
        F.linear, F.conv2d = _exact_linear, _exact_conv2d
    _here.check = check or _nothing
    _here.halves = {} if half and multiplies_bf16() else None
    try:
        yield
    finally:
        _here.check = _here.halves = None
        with _installing:
            _users -= 1
            if not _users:
                F.linear, F.conv2d = _linear, _conv2d


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


def _nothing() -> None:
    pass


def _exact_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    check = getattr(_here, "check", None)
    if check is None:  # another thread's business
        return _linear(input, weight, bias)
    check()
    width = input.shape[-1]
    if input.dim() == 3 and input.shape[1] >= ROWS:
        if _here.halves is not None and input.device.type == "cpu":
            return _half_product(input, weight, bias)
        return _product(input, weight, bias)
    rows = input.reshape(-1, width)
    tiles = F.pad(rows, (0, 0, 0, -len(rows) % ROWS)).view(-1, ROWS, width)
    return _product(tiles, weight, bias).flatten(0, 1)[: len(rows)].view(*input.shape[:-1], -1)


def _product(tiles: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    weights = weight.t().expand(len(tiles), -1, -1)
    return torch.bmm(tiles, weights) if bias is None else torch.baddbmm(bias, tiles, weights)


def _half_product(tokens: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # A part of a weight is another tensor each time it is asked for, but lies in the same place; and what is
    # kept keeps its place, so that nothing else can come to lie there before the drawing ends.
    key = weight.data_ptr(), weight.shape, weight.stride()
    if key not in _here.halves:
        _here.halves[key] = weight, weight.bfloat16()
    # one product for the batch: bf16 kernels add in one order, however many rows there are
    product = _linear(tokens.bfloat16(), _here.halves[key][1]).float()
    return product if bias is None else product.add_(bias)


def _exact_conv2d(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if getattr(_here, "check", None) is None or len(input) != 1:
        return _conv2d(input, *args, **kwargs)
    return _conv2d(torch.cat([input, input]), *args, **kwargs)[:1]
