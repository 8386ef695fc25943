"""Rectified flow against cases with a known answer."""

from itertools import pairwise

import pytest
import torch

from frozen_nets import pixel_frozen
from salon.errors import SalonError
from salon.methods.base import DataShape, load_method, read_config
from salon.methods.diffusion import Diffusion, DiffusionConfig
from salon.nn.flow import MIN_SIGMA
from salon.nn.solvers import even_sigmas
from salon.towers.states import Batch, TextStates

SHAPE = DataShape(image_size=16, text_width=8, pooled_width=8, concept_width=8)
FROZEN = pixel_frozen(8)
SOLVERS = ("euler", "heun", "unipc", "dpm++")


def make_text(count: int) -> TextStates:
    generator = torch.Generator().manual_seed(0)
    return TextStates(
        torch.randn(count, 4, 8, generator=generator),
        torch.ones(count, 4, dtype=torch.bool),
        torch.nn.functional.normalize(torch.randn(count, 8, generator=generator), dim=1),
        torch.randn(count, 8, generator=generator),
    )


class GaussianFlow(Diffusion):
    """The exact prediction for data N(mean, std^2): E[x | x_s] for x_s = (1-s) x + s e, in closed form."""

    mean, std = 0.3, 0.2

    def predict(self, x: torch.Tensor, sigma: torch.Tensor, text: TextStates) -> torch.Tensor:
        s = sigma[:, None, None, None]
        variance = ((1 - s) * self.std) ** 2 + s**2
        return self.mean + (1 - s) * self.std**2 / variance * (x - (1 - s) * self.mean)


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_reach_a_gaussian_with_a_known_flow(solver: str) -> None:
    method = GaussianFlow(DiffusionConfig(family="diffusion", solver=solver), SHAPE, FROZEN).eval()
    drawn = method.sample(
        make_text(64),
        generator=torch.Generator().manual_seed(1),
        guidance_scale=1,
        num_inference_steps=100,
    )
    # the flow maps each noise value e to mean + std * e exactly (one-dimensional optimal transport)
    noise = torch.randn(drawn.shape, generator=torch.Generator().manual_seed(1))
    exact = (GaussianFlow.mean + GaussianFlow.std * noise).clamp(-1, 1)
    assert (drawn - exact).abs().max() < 0.05
    assert drawn.mean() == pytest.approx(GaussianFlow.mean, abs=0.01)
    assert drawn.std() == pytest.approx(GaussianFlow.std, rel=0.05)


def test_euler_is_the_hand_written_integral() -> None:
    method = Diffusion(DiffusionConfig(family="diffusion"), SHAPE, FROZEN).eval()
    torch.nn.init.normal_(method.unet.head.weight, std=0.05)
    text = make_text(2)
    drawn = method.sample(
        text, generator=torch.Generator().manual_seed(1), guidance_scale=1, num_inference_steps=4
    )
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    levels = even_sigmas(4)
    assert (levels[0], levels[-1]) == (1, 0)
    with torch.inference_mode():
        for now, then in pairwise(levels):
            velocity = (x - method.predict(x, torch.full((2,), now), text)) / max(now, MIN_SIGMA)
            x = x + (then - now) * velocity
    assert torch.allclose(drawn, x.clamp(-1, 1), atol=1e-5)


def test_guidance_extrapolates_from_the_null_caption() -> None:
    method = Diffusion(DiffusionConfig(family="diffusion"), SHAPE, FROZEN).eval()
    torch.nn.init.normal_(method.unet.head.weight, std=0.05)
    torch.nn.init.normal_(method.null_words)
    for block in method.unet.modules():
        if hasattr(block, "conv_out"):
            torch.nn.init.normal_(block.conv_out.weight, std=0.05)
    text = make_text(2)
    null = method.with_null_captions(text, torch.ones(2, dtype=torch.bool))
    noise = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        one = torch.ones(2)
        guided, free = method.predict(noise, one, text), method.predict(noise, one, null)
        drawn = method.sample(
            text, generator=torch.Generator().manual_seed(1), guidance_scale=3, num_inference_steps=1
        )
    assert not torch.allclose(guided, free)
    assert torch.allclose(drawn, (free + 3 * (guided - free)).clamp(-1, 1), atol=1e-5)


def test_no_guidance_outside_its_interval() -> None:
    config = DiffusionConfig(family="diffusion", guidance_interval=(0.0, 0.0))
    method = Diffusion(config, SHAPE, FROZEN).eval()
    torch.nn.init.normal_(method.unet.head.weight, std=0.05)
    drawn = [
        method.sample(
            make_text(1),
            generator=torch.Generator().manual_seed(1),
            guidance_scale=scale,
            num_inference_steps=3,
        )
        for scale in (1, 9)
    ]
    assert torch.equal(*drawn)


def test_null_captions_replace_every_trace_of_the_caption() -> None:
    method = Diffusion(DiffusionConfig(family="diffusion"), SHAPE, FROZEN)
    one = method.with_null_captions(make_text(3), torch.tensor([True, False, True]))
    other = method.with_null_captions(make_text(6)[3:], torch.tensor([True, True, True]))
    assert torch.equal(one.concept[0], other.concept[0])
    assert torch.equal(one.tokens[0][one.mask[0]], other.tokens[0][other.mask[0]])
    assert torch.equal(one.tokens[1], make_text(3).tokens[1])


def test_a_zero_network_predicts_a_grey_picture() -> None:
    """The head starts at zero, so that the first velocity is x_sigma / sigma."""
    method = Diffusion(DiffusionConfig(family="diffusion"), SHAPE, FROZEN)
    predicted = method.predict(torch.randn(3, 3, 16, 16), torch.tensor([1.0, 0.5, 0.01]), make_text(3))
    assert torch.equal(predicted, torch.zeros_like(predicted))


def test_the_loss_is_that_of_the_velocity() -> None:
    """For x = 0 everywhere a grey prediction is exact at every sigma above MIN_SIGMA."""
    config = DiffusionConfig(family="diffusion", logit_mean=3.0, logit_std=0.1)
    method = Diffusion(config, SHAPE, FROZEN)
    images = torch.full((64, 3, 16, 16), 0.5)
    flat, grey = (
        method.losses(
            Batch(pictures, make_text(64)), objective="model", generator=torch.Generator().manual_seed(0)
        ).total
        for pictures in (torch.zeros_like(images), images)
    )
    assert flat.item() == pytest.approx(0, abs=1e-8)
    # else the velocity is wrong by x / sigma, and sigma is close to sigmoid(3)
    assert grey.item() == pytest.approx(0.25 / torch.tensor(3.0).sigmoid().item() ** 2, rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"guidance_scale": 0.5}, "guidance_scale 0.5 is out of range: 1 to 20"),
        ({"guidance_scale": float("nan")}, "guidance_scale nan is out of range"),
        ({"num_inference_steps": 0}, "num_inference_steps 0 is out of range: 1 to 200"),
        ({"num_inference_steps": 10**6}, "num_inference_steps 1000000 is out of range"),
    ],
)
def test_values_out_of_range_are_refused(arguments: dict, message: str) -> None:
    method = Diffusion(DiffusionConfig(family="diffusion"), SHAPE, FROZEN).eval()
    with pytest.raises(SalonError, match=message):
        method.sample(make_text(1), generator=torch.Generator(), **arguments)


def test_a_size_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(SalonError, match="multiple of 8"):
        Diffusion(DiffusionConfig(family="diffusion"), DataShape(20, 8, 8, 8), FROZEN)


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SalonError, match=r"layout_levels has \[5\]; the levels are 0 to 2"):
        Diffusion(DiffusionConfig(family="diffusion", layout_levels=[1, 5]), SHAPE, FROZEN)


def test_unknown_family_and_unknown_key_are_named() -> None:
    with pytest.raises(SalonError, match=r"unknown method family 'difusion': one of .*diffusion"):
        read_config("difusion", {})
    with pytest.raises(
        SalonError, match=r"methods\.diffusion: unknown key 'learning_rate': did you mean|known keys"
    ):
        read_config("diffusion", {"learning_rate": 1})


def test_loading_an_empty_folder_says_what_to_run(tmp_path) -> None:
    with pytest.raises(SalonError, match="run its train stage first"):
        load_method(tmp_path, FROZEN)


def test_an_unknown_solver_is_refused() -> None:
    with pytest.raises(SalonError, match="solver: Input should be 'euler', 'heun', 'unipc' or 'dpm"):
        read_config("diffusion", {"solver": "rk45"})
