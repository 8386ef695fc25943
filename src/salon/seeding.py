"""Random generators whose numbers are a function of a seed and a place alone."""

import torch


def step_seed(seed: int, step: int) -> int:
    """Seed of what is random in one step of a training."""
    return seed * 1_000_003 + step


def seeded_generators(seed: int, count: int, *, first: int = 0) -> list[torch.Generator]:
    """One generator per picture, so that picture i is the same whatever batch it is sampled in.

    On the CPU whatever the device, so that a seed gives the same noise everywhere.
    """
    return [torch.Generator().manual_seed(seed * 1_000_003 + i) for i in range(first, first + count)]
