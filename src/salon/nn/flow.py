"""Rectified flow (Liu 2022, eq. 1) with a network that predicts the picture.

x_sigma = (1 - sigma) x + sigma eps runs straight from the picture x to noise eps; the velocity along the line
is v = eps - x. From x_sigma and a prediction of x it is v = (x_sigma - x) / sigma, so that an error of the
velocity is the error of the picture over sigma (x-prediction with v-loss, Li 2025, "Back to basics").
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from salon.nn.noise import batch_noise

MIN_SIGMA = 0.05  # the loss divides by sigma; below this it is held back (Li 2025, sec. 4)

Predict = Callable[[Float[Tensor, "b c h w"], Float[Tensor, "b"]], Float[Tensor, "b c h w"]]
"""(x_sigma, sigma) -> the expected picture."""


def velocity_loss(
    predict: Predict,
    x: Float[Tensor, "b c h w"],
    *,
    logit_mean: float,
    logit_std: float,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    """Squared error of the velocity (Esser 2024, eq. 14) at logit-normal noise levels (eq. 19)."""
    draws = batch_noise(len(x), generator=generator, device=x.device)
    eps = batch_noise(*x.shape, generator=generator, device=x.device)
    sigma = torch.sigmoid(logit_mean + logit_std * draws)
    s = sigma[:, None, None, None]
    error = predict((1 - s) * x + s * eps, sigma).float() - x
    return (error / s.clamp(min=MIN_SIGMA)).square().mean()
