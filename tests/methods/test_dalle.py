"""The GPT over codes against cases with a known answer."""

import math

import pytest
import torch

from colour_codes import WIDTH, colour_frozen, make_text, randomise
from frozen_nets import pixel_frozen
from salon.errors import SalonError
from salon.methods.base import DataShape
from salon.methods.dalle import Dalle, DalleConfig
from salon.nn.code_prediction import gumbel
from salon.seeding import seeded_generators

SHAPE = DataShape(image_size=16, text_width=WIDTH, pooled_width=WIDTH, words_width=WIDTH)
FROZEN = colour_frozen()


def make_method(shape: DataShape = SHAPE, **settings: object) -> Dalle:
    torch.manual_seed(0)
    return Dalle(
        DalleConfig(family="dalle", width=32, layers=2, head_width=8, **settings), shape, FROZEN
    ).eval()


@pytest.mark.parametrize("image_size", [16, 24])
def test_what_is_drawn_with_the_cache_follows_from_the_whole_sequence(image_size: int) -> None:
    """Each code is argmax(guided logits / T + noise), the logits being those of one uncached pass."""
    method = make_method(DataShape(image_size, WIDTH, WIDTH, WIDTH), temperature=0.7)
    randomise(method)
    text = make_text(3)
    drawn = method.sample(text, generator=seeded_generators(1, 3), guidance_scale=3)
    codes = method.codec.encode(drawn)
    with torch.no_grad():
        captioned = method.logits(codes, text.words)
        free = method.logits(codes, method.caption.null_words.expand_as(text.words))
    noise = gumbel((method.cells, 8), seeded_generators(1, 3), device=torch.device("cpu"))
    scores = (free + 3 * (captioned - free)) / 0.7 + noise
    assert torch.equal(scores.argmax(dim=2), codes)
    assert not torch.allclose(captioned, free, atol=0.1)


def test_a_code_is_predicted_from_those_before_it() -> None:
    method = make_method()
    randomise(method)
    codes = torch.zeros(1, 16, dtype=torch.long)
    changed = codes.clone()
    changed[0, 6] = 3
    with torch.no_grad():
        before, after = (method.logits(c, make_text(1).words)[0] for c in (codes, changed))
    differs = (before - after).abs().amax(dim=1) > 1e-5
    assert differs.tolist() == [False] * 7 + [True] * 9


def test_the_first_loss_is_that_of_an_even_guess() -> None:
    method = make_method()
    codes = torch.randint(8, (4, 16))
    loss = method.losses(
        torch.zeros(4, 3, 16, 16),
        make_text(4),
        prepared=codes,
        objective="model",
        step=0,
        generator=torch.Generator().manual_seed(0),
    ).total
    assert loss.item() == pytest.approx(math.log(8), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_codes_are_drawn_from_the_softmax(temperature: float) -> None:
    """A network that knows only how common each code is."""
    method = make_method(temperature=temperature)
    bias = torch.linspace(-1, 1, 8)
    method.code.bias_out.data.copy_(bias)
    drawn = method.sample(make_text(256), generator=seeded_generators(1, 256), guidance_scale=1)
    shares = torch.bincount(method.codec.encode(drawn).flatten(), minlength=8) / (256 * 16)
    assert torch.allclose(shares, (bias / temperature).softmax(0), atol=0.03)


def test_prepare_gives_the_codes() -> None:
    method = make_method()
    codes = torch.randint(8, (2, 16))
    assert torch.equal(method.prepare(method.codec.decode(codes)), codes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"guidance_scale": 0.5}, "guidance_scale 0.5 is out of range: 1 to 20"),
        ({"guidance_scale": float("nan")}, "guidance_scale nan is out of range"),
        ({"num_inference_steps": 8}, "num_inference_steps 8: dalle writes a picture in exactly 16 steps"),
    ],
)
def test_values_out_of_range_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(SalonError, match=message):
        make_method().sample(make_text(1), generator=torch.Generator(), **arguments)


def test_its_own_number_of_steps_is_no_tradeoff_but_no_error_either() -> None:
    method = make_method()
    given, left_out = (
        method.sample(make_text(1), generator=seeded_generators(1, 1), num_inference_steps=steps)
        for steps in (16, None)
    )
    assert torch.equal(given, left_out)


def test_a_codec_without_codes_is_refused() -> None:
    with pytest.raises(SalonError, match="dalle predicts codes, and this codec has none"):
        Dalle(DalleConfig(family="dalle"), SHAPE, pixel_frozen(WIDTH))
