"""Solvers against cases with a known answer, and against diffusers."""

import diffusers
import pytest
import torch

from salon.nn.solvers import SolverName, diffusers_solver, euler, even_sigmas, guided, late_sigmas

MEAN, STD = 0.3, 0.2


def expected_picture(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """E[x | x_sigma] of data N(MEAN, STD^2), in closed form."""
    variance = ((1 - sigma) * STD) ** 2 + sigma**2
    return MEAN + (1 - sigma) * STD**2 / variance * (x - (1 - sigma) * MEAN)


def test_euler_reaches_a_gaussian_with_a_known_flow() -> None:
    noise = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    drawn = euler(expected_picture, noise, even_sigmas(200))
    # the flow maps each noise value e to mean + std * e exactly (one-dimensional optimal transport)
    assert (drawn - (MEAN + STD * noise)).abs().max() < 0.02


def test_one_step_is_the_prediction() -> None:
    noise = torch.randn(2, 3, 4, 4)
    assert torch.allclose(euler(expected_picture, noise, even_sigmas(1)), torch.full_like(noise, MEAN))


def test_equal_steps_from_noise_to_the_picture() -> None:
    seen = []

    def record(x: torch.Tensor, sigma: float) -> torch.Tensor:
        seen.append(sigma)
        return torch.zeros_like(x)

    noise = torch.randn(2, 3, 4, 4)
    assert torch.equal(euler(record, noise, even_sigmas(4)), torch.zeros_like(noise))
    assert seen == [1, 0.75, 0.5, 0.25]


@pytest.mark.parametrize("num_steps", [1, 2, 8, 48, 200])
def test_eulers_own_lines_are_the_scheduler_of_diffusers(num_steps: int) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(num_steps)
    assert late_sigmas(num_steps) == pytest.approx(scheduler.sigmas.tolist(), abs=1e-8)
    noise = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    x = noise
    for t in scheduler.timesteps:
        sigma = float(t) / scheduler.config.num_train_timesteps
        x = scheduler.step((x - expected_picture(x, sigma)) / sigma, t, x).prev_sample
    drawn = euler(expected_picture, noise, late_sigmas(num_steps))
    torch.testing.assert_close(drawn, x, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["heun", "unipc", "dpm++"])
def test_solvers_of_diffusers_reach_a_gaussian_with_a_known_flow(name: SolverName) -> None:
    noise = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    drawn = diffusers_solver(name, expected_picture, noise, num_steps=50)
    assert (drawn - (MEAN + STD * noise)).abs().max() < 0.05


def test_guidance_extrapolates_within_its_interval_and_asks_once_without() -> None:
    asked = []

    def predict(x: torch.Tensor, sigma: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        asked.append(sigma.tolist())
        return condition[:, None, None, None].expand_as(x)

    condition, both = torch.tensor([5.0, 7.0]), torch.tensor([5.0, 7.0, 1.0, 1.0])
    denoise = guided(predict, condition, both, scale=3, interval=(0.2, 0.5))
    x = torch.zeros(2, 1, 1, 1)
    assert denoise(x, 0.5).flatten().tolist() == [1 + 3 * 4, 1 + 3 * 6]
    assert denoise(x, 0.6).flatten().tolist() == [5, 7]
    assert guided(predict, condition, both, scale=1)(x, 0.5).flatten().tolist() == [5, 7]
    assert asked == [[0.5] * 4, pytest.approx([0.6] * 2), [0.5] * 2]
