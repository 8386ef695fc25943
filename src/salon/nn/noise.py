"""Random numbers by picture: whoever is drawn or trained with a picture, its own stay the same."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from salon.nn.distributed import processes


def batch_noise(
    rows: int,
    *shape: int,
    generator: torch.Generator,
    device: torch.device,
    draw: Callable[..., Tensor] = torch.randn,
) -> Tensor:
    """Noise of a training batch on `device`: `rows` of `shape`, one for each picture with this process.

    Drawn for the whole batch: processes that are seeded alike together have what one would have.
    """
    rank, size = processes()
    return draw(rows * size, *shape, generator=generator, device=generator.device)[rank::size].to(device)


def drop_mask(batch: Tensor, share: float, *, generator: torch.Generator) -> Bool[Tensor, "b"]:
    """A random share of the rows of a training batch, for what is dropped for guidance (Ho 2022)."""
    return batch_noise(len(batch), generator=generator, device=batch.device, draw=torch.rand) < share


def own_noise(
    shape: Sequence[int],
    generators: Sequence[torch.Generator],
    *,
    device: torch.device,
    draw: Callable[..., Tensor] = torch.randn,
) -> Tensor:
    """Noise of `shape` for each picture, from its own generator, on `device`."""
    return torch.stack([draw(*shape, generator=each, device=each.device) for each in generators]).to(device)
