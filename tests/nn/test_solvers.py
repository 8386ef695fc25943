"""Solvers against cases with a known answer, and against diffusers."""

from itertools import pairwise
from typing import get_args

import diffusers
import pytest
import torch

from salon.nn.solvers import SolverName, even_sigmas, guided, solve

MEAN, STD = 0.3, 0.2


def expected_picture(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """E[x | x_sigma] of data N(MEAN, STD^2), in closed form."""
    variance = ((1 - sigma) * STD) ** 2 + sigma**2
    return MEAN + (1 - sigma) * STD**2 / variance * (x - (1 - sigma) * MEAN)


def test_one_step_is_the_prediction() -> None:
    noise = torch.randn(2, 3, 4, 4)
    assert torch.allclose(solve(expected_picture, noise, even_sigmas(1)), torch.full_like(noise, MEAN))


def test_equal_steps_from_noise_to_the_picture() -> None:
    seen = []

    def record(x: torch.Tensor, sigma: float) -> torch.Tensor:
        seen.append(sigma)
        return torch.zeros_like(x)

    noise = torch.randn(2, 3, 4, 4)
    assert torch.equal(solve(record, noise, even_sigmas(4)), torch.zeros_like(noise))
    assert seen == [1, 0.75, 0.5, 0.25]


@pytest.mark.parametrize("num_steps", [1, 2, 8, 48, 200])
def test_eulers_own_lines_are_the_scheduler_of_diffusers(num_steps: int) -> None:
    sigmas = even_sigmas(num_steps)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=sigmas[:-1])
    noise = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    x = noise
    for t in scheduler.timesteps:
        sigma = float(t) / scheduler.config.num_train_timesteps
        x = scheduler.step((x - expected_picture(x, sigma)) / sigma, t, x).prev_sample
    torch.testing.assert_close(solve(expected_picture, noise, sigmas), x, rtol=0, atol=2e-6)


@pytest.mark.parametrize("solver", get_args(SolverName))
@pytest.mark.parametrize("num_steps", range(1, 17))
def test_every_step_is_asked_for_where_the_grid_says_and_moves_the_picture(
    solver: SolverName, num_steps: int
) -> None:
    """By at least two of the 255 levels of a pixel: a step that does less is a network pass for nothing."""
    levels, seen = [], []

    def record(x: torch.Tensor, sigma: float) -> torch.Tensor:
        levels.append(sigma)
        seen.append(x)
        return expected_picture(x, sigma)

    noise = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    sigmas = even_sigmas(num_steps)
    drawn = solve(record, noise, sigmas, solver=solver)
    asked = sigmas[:-1]
    if solver == "heun":  # once more where each step but the last ends, from where Euler's would have ended
        asked = [sigmas[0], *(sigma for sigma in sigmas[1:-1] for _ in range(2))]
        seen = seen[::2]
    assert levels == pytest.approx(asked, abs=1e-5)
    steps = pairwise([*seen, drawn])
    moved = [(after - before).square().mean().sqrt().item() for before, after in steps]
    assert len(moved) == num_steps
    assert min(moved) > 2 * 2 / 255


@pytest.mark.parametrize("solver", get_args(SolverName))
def test_solvers_reach_a_gaussian_with_a_known_flow(solver: SolverName) -> None:
    noise = torch.randn(64, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    # the flow maps each noise value e to mean + std * e exactly (one-dimensional optimal transport)
    exact = MEAN + STD * noise
    few, many = (
        (solve(expected_picture, noise, even_sigmas(steps), solver=solver) - exact).abs()
        for steps in (20, 200)
    )
    assert many.max() < 0.02
    first_order = (solve(expected_picture, noise, even_sigmas(20)) - exact).abs()
    assert few.mean() <= (1 if solver == "euler" else 0.5) * first_order.mean()


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
