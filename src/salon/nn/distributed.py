"""One batch shared out to several processes, which learn from it what one process would.

Row i of the whole batch is with process i mod n. Gradients are averaged over the processes, so that a mean
over equal shares is the mean over the batch. What is no such mean (pictures compared with each other, means
over a random number of cells) asks here. With one process every function gives back what it got.
"""

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.distributed.nn.functional import all_gather


def processes() -> tuple[int, int]:
    """This process's number, and how many share the batch."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def gather(share: Float[Tensor, "b ..."]) -> Float[Tensor, "n ..."]:
    """The rows of the whole batch, in its order; gradients find their way back to their process."""
    if processes()[1] == 1:
        return share
    # every process has the same loss: what their gradients add up to is averaged over them afterwards
    return torch.stack(all_gather(share), dim=1).flatten(0, 1)


def own_rows(count: int) -> int:
    """How many of the first `count` rows of the whole batch are with this process, as its own first rows."""
    rank, size = processes()
    return len(range(rank, count, size))


def weight(count: Tensor) -> Tensor | float:
    """Factor that turns a mean over `count` of this process's items into its part of the mean over all."""
    _, size = processes()
    if size == 1:
        return 1.0
    total = count.detach().clone()
    dist.all_reduce(total)
    return count * size / total
