"""Random generators whose numbers are a function of a seed and a place alone."""

import torch

STRIDE = 1_000_003  # prime, and more than there are steps or pictures: two seeds share no place


def place_seed(seed: int, place: int) -> int:
    """A seed of its own for the step, or the picture, number `place`."""
    return seed * STRIDE + place


def step_generator(seed: int, step: int) -> torch.Generator:
    """Of one training step, so that a resumed training draws what an unbroken one would have drawn."""
    return torch.Generator().manual_seed(place_seed(seed, step))


def seeded_generators(seed: int, count: int, *, first: int = 0) -> list[torch.Generator]:
    """One generator per picture, so that picture i is the same whatever batch it is sampled in.

    On the CPU whatever the device, so that a seed gives the same noise everywhere.
    """
    return [step_generator(seed, i) for i in range(first, first + count)]
