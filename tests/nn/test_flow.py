"""Rectified flow with x-prediction against cases with a known answer."""

import pytest
import torch

from salon.nn.flow import MIN_SIGMA, velocity_loss


def test_the_loss_is_that_of_the_velocity() -> None:
    """Written out as the squared difference of two velocities, v = (x_sigma - x) / sigma."""
    x = torch.randn(256, 3, 4, 4)
    seen = {}

    def grey(x_sigma: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        seen.update(x_sigma=x_sigma, sigma=sigma)
        return torch.zeros_like(x_sigma)

    loss = velocity_loss(grey, x, logit_mean=0.5, logit_std=0.5, generator=torch.Generator().manual_seed(0))
    s = seen["sigma"][:, None, None, None]
    assert s.min() > MIN_SIGMA
    assert seen["sigma"].logit().mean().item() == pytest.approx(0.5, abs=0.1)
    eps = (seen["x_sigma"] - (1 - s) * x) / s
    assert eps.std().item() == pytest.approx(1, abs=0.02)
    assert loss.item() == pytest.approx((seen["x_sigma"] / s - (eps - x)).square().mean().item(), rel=1e-4)


def test_a_right_prediction_costs_nothing_even_without_noise() -> None:
    x = torch.rand(4, 3, 4, 4)
    for logit_mean in (-20.0, 0.0, 20.0):
        loss = velocity_loss(
            lambda *_: x, x, logit_mean=logit_mean, logit_std=1, generator=torch.Generator().manual_seed(0)
        )
        assert loss.item() == 0
