"""A step's losses and gradients as one CUDA graph.

A small network's step is hundreds of kernels of some microseconds each, and asking for them one by one takes
longer than they do. Recorded once, they are asked for all together; they read their rows, their random
numbers and the weights where the recording found them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn

from salon.nn.trainable import Losses

WARMUP_RUNS = 3  # before a recording: libraries choose their kernels and take their memory

Compute = Callable[[Int[Tensor, "b"], torch.Generator], Losses]
"""(rows of the training set, generator) -> losses: the same kernels for any rows and any seed."""


@dataclass
class RecordedStep:
    """A recorded step of one objective; its gradients lie in the parameters."""

    graph: torch.cuda.CUDAGraph
    rows: Int[Tensor, "b"]
    losses: Losses

    @classmethod
    def record(
        cls,
        compute: Compute,
        rows: Int[Tensor, "b"],
        generator: torch.Generator,
        parameters: Sequence[nn.Parameter],
    ) -> "RecordedStep":
        """Run `compute` and its backward pass some times and record them; no weight changes.

        Args:
            generator: Of the device; each replay draws from it what an ordinary step would. It is left as it
                was found.
            parameters: Those that `compute` trains. From now on their gradients stay where they are, and each
                replay overwrites them: they must not be set to None.

        Raises:
            RuntimeError: `compute` does what cannot be recorded, or memory does not suffice.
        """
        rows, before = rows.clone(), generator.get_state()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARMUP_RUNS):
                _forget(parameters)
                compute(rows, generator).total.backward()
        torch.cuda.current_stream().wait_stream(side)
        _forget(parameters)
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(generator)
        # thread_local: what other threads ask of the GPU meanwhile is no part of it, and allowed
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            losses = compute(rows, generator)
            losses.total.backward()
        generator.set_state(before)
        detached = Losses(losses.total.detach(), {name: term.detach() for name, term in losses.terms.items()})
        return cls(graph, rows, detached)

    def __call__(self, rows: Int[Tensor, "b"]) -> Losses:
        """The losses of these rows; the gradients are where `record` left them."""
        self.rows.copy_(rows, non_blocking=True)
        self.graph.replay()
        # the next replay overwrites its own
        return Losses(
            self.losses.total.clone(), {name: term.clone() for name, term in self.losses.terms.items()}
        )


def _forget(parameters: Sequence[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None
