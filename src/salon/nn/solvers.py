"""Solvers of a rectified flow: from noise (sigma = 1) to a picture (sigma = 0) by predictions of the picture.

All go down one grid of noise levels, which the caller states. n steps ask the network n times, Heun's method
2n - 1 times (its last step, to 0, is one of Euler's). Euler's is here. The others are schedulers of
diffusers, loaded when asked for: to import it takes longer than to draw a picture. Of their own grids the
last step is of 0.001 and moves nothing, and of their rounded timesteps the network is asked at other levels
than those they step between.
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

LARGEST_SIGMA = 1 - 1e-6  # of multistep solvers, which take the logarithm of 1 - sigma


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


def even_sigmas(num_steps: int) -> list[float]:
    """From 1 to 0 in equal steps."""
    return torch.linspace(1, 0, num_steps + 1).tolist()


def solve(
    denoise: Denoiser,
    x: Float[Tensor, "b c h w"],
    sigmas: Sequence[float],
    *,
    solver: SolverName = "euler",
) -> Float[Tensor, "b c h w"]:
    """From noise `x` to a picture, down the grid `sigmas` from 1 to 0."""
    if solver == "euler":
        for now, then in pairwise(sigmas):
            # along v x_sigma stays on the line through the predicted picture: no division by sigma
            x = denoise(x, now).lerp(x, then / now)
        return x
    import diffusers

    flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    schedulers: dict[str, Any] = {
        "heun": diffusers.FlowMatchHeunDiscreteScheduler,
        "unipc": partial(diffusers.UniPCMultistepScheduler, **flow),
        "dpm++": partial(diffusers.DPMSolverMultistepScheduler, **flow),
    }
    scheduler = schedulers[solver]()
    scheduler.set_timesteps(len(sigmas) - 1)
    scheduler.set_begin_index(0)
    first, *later, last = sigmas
    asked = [min(first, LARGEST_SIGMA), *later]
    if solver == "heun":  # where a step ends and where the next one begins
        asked = [first, *(sigma for sigma in later for _ in range(2))]
    scheduler.sigmas = torch.tensor([*asked, last])
    for sigma in asked:
        velocity = (x - denoise(x, sigma)) / sigma
        x = scheduler.step(
            velocity, torch.tensor(sigma * scheduler.config.num_train_timesteps), x
        ).prev_sample
    return x
