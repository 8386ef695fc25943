"""Solvers of a rectified flow: from noise (sigma = 1) to a picture (sigma = 0) by predictions of the picture.

Euler's is here. The others are schedulers of diffusers with the grids of their own, loaded when asked for: to
import it takes longer than to draw a picture.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

SolverName = Literal["euler", "heun", "unipc", "dpm++"]
C = TypeVar("C")

Denoiser = Callable[[Float[Tensor, "b c h w"], float], Float[Tensor, "b c h w"]]
"""(x_sigma, sigma) -> the expected picture."""


def guided(
    predict: Callable[[Tensor, Tensor, C], Tensor],
    condition: C,
    both: C,
    *,
    scale: float,
    interval: tuple[float, float] = (0.0, 1.0),
) -> Denoiser:
    """`predict` under classifier-free guidance (Ho 2022) at the noise levels of `interval`.

    `both` is `condition`, and after it as many null conditions.
    """

    def denoise(x: Tensor, sigma: float) -> Tensor:
        if scale == 1 or not interval[0] <= sigma <= interval[1]:
            return predict(x, x.new_full((len(x),), sigma), condition)
        steered, free = predict(x.repeat(2, 1, 1, 1), x.new_full((2 * len(x),), sigma), both).chunk(2)
        return free + scale * (steered - free)

    return denoise


def euler(
    denoise: Denoiser, x: Float[Tensor, "b c h w"], sigmas: Sequence[float]
) -> Float[Tensor, "b c h w"]:
    """Euler's method down the grid `sigmas`, which ends at 0.

    A step along v keeps x_sigma on the line through the predicted picture, so no step divides by sigma.
    """
    for now, then in pairwise(sigmas):
        x = denoise(x, now).lerp(x, then / now)
    return x


def even_sigmas(num_steps: int) -> list[float]:
    """From 1 to 0 in equal steps."""
    return torch.linspace(1, 0, num_steps + 1).tolist()


def late_sigmas(num_steps: int, *, last: float = 0.001) -> list[float]:
    """Evenly from 1 to `last`, then 0: the grid of diffusers' Euler."""
    return [*torch.linspace(1, last, num_steps, dtype=torch.float64).float().tolist(), 0.0]


def diffusers_solver(
    name: SolverName, denoise: Denoiser, x: Float[Tensor, "b c h w"], *, num_steps: int
) -> Float[Tensor, "b c h w"]:
    """By the scheduler of diffusers behind a solver's name."""
    import diffusers

    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    schedulers: dict[str, Any] = {
        "heun": diffusers.FlowMatchHeunDiscreteScheduler,
        "unipc": partial(diffusers.UniPCMultistepScheduler, **flow),
        "dpm++": partial(diffusers.DPMSolverMultistepScheduler, **flow),
    }
    scheduler = schedulers[name]()
    scheduler.set_timesteps(num_steps, device=x.device)
    for t in scheduler.timesteps:
        sigma = float(t) / scheduler.config.num_train_timesteps
        x = scheduler.step((x - denoise(x, sigma)) / sigma, t, x).prev_sample
    return x
