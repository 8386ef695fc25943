"""The decoder of image embeddings against cases with a known answer."""

import pytest
import torch

from frozen_nets import pixel_frozen
from salon.errors import SalonError
from salon.methods.base import DataShape
from salon.methods.clip import Clip, ClipConfig
from salon.towers.states import Batch, TextStates

SHAPE = DataShape(image_size=16, text_width=8, pooled_width=8, concept_width=8)


def make_clip(**settings: object) -> Clip:
    """A decoder whose untrained network already answers to its condition."""
    torch.manual_seed(0)
    method = Clip(ClipConfig(family="clip", **settings), SHAPE, pixel_frozen(SHAPE.pooled_width)).eval()
    torch.nn.init.normal_(method.unet.head.weight, std=0.05)
    torch.nn.init.normal_(method.null_embedding)
    return method


def make_text(count: int, *, seed: int = 0) -> TextStates:
    generator = torch.Generator().manual_seed(seed)
    return TextStates(
        torch.randn(count, 4, SHAPE.text_width, generator=generator),
        torch.ones(count, 4, dtype=torch.bool),
        torch.nn.functional.normalize(torch.randn(count, SHAPE.pooled_width, generator=generator), dim=1),
        torch.randn(count, SHAPE.concept_width, generator=generator),
    )


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(i) for i in range(count)]


def test_training_reads_no_caption() -> None:
    method = make_clip()
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    precomputed = method.precompute(images)
    assert torch.equal(precomputed, method.towers.encode_concept(images))
    losses = [
        method.losses(
            Batch(images, make_text(4, seed=seed), precomputed),
            objective="model",
            generator=torch.Generator().manual_seed(1),
        ).total
        for seed in (0, 1)
    ]
    assert torch.equal(*losses)


def test_the_network_sees_the_embedding_or_the_null_one() -> None:
    seen = []

    class Watched(Clip):
        def predict(self, x: torch.Tensor, sigma: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
            seen.append(embedding.detach())
            return super().predict(x, sigma, embedding)

    config = ClipConfig(family="clip", embedding_dropout=0.5)
    method = Watched(config, SHAPE, pixel_frozen(SHAPE.pooled_width))
    images = torch.rand(64, 3, 16, 16) * 2 - 1
    embeddings = make_text(64).concept
    batch = Batch(images, make_text(64), embeddings)
    method.losses(batch, objective="model", generator=torch.Generator())
    null = (seen[0] == method.null_embedding).all(dim=1)
    assert 16 < null.sum() < 48
    assert torch.equal(seen[0][~null], embeddings[~null])


def test_guidance_extrapolates_from_the_null_embedding() -> None:
    method = make_clip(refinement=0)
    text = make_text(2)
    noise = torch.stack([torch.randn(3, 16, 16, generator=g) for g in generators(2)])
    with torch.no_grad():
        steered = method.predict(noise, torch.ones(2), text.concept)
        free = method.predict(noise, torch.ones(2), method.null_embedding.expand(2, -1))
    assert not torch.allclose(steered, free)
    for scale in (1, 3):
        drawn = method.sample(text, generator=generators(2), guidance_scale=scale, num_inference_steps=1)
        assert torch.allclose(drawn, (free + scale * (steered - free)).clamp(-1, 1), atol=1e-5)


def cosine(method: Clip, pictures: torch.Tensor, text: TextStates) -> torch.Tensor:
    return (method.towers.encode_images(pictures) * text.pooled).sum(dim=1)


def test_refinement_moves_by_a_fixed_length_and_towards_the_caption() -> None:
    method = make_clip()
    text = make_text(4)
    pictures = torch.rand(4, 3, 16, 16) - 0.5
    moved = method.towards(pictures, text.pooled, rms=0.01)
    assert torch.allclose((moved - pictures).square().mean(dim=(1, 2, 3)).sqrt(), torch.full((4,), 0.01))
    assert (cosine(method, moved, text) > cosine(method, pictures, text)).all()
    assert not moved.requires_grad
    alone = method.towards(pictures[2:3], text.pooled[2:3], rms=0.01)
    assert torch.allclose(alone, moved[2:3], atol=1e-4)


def test_refinement_works_only_between_its_noise_levels() -> None:
    text = make_text(2)
    drawn = {
        interval: make_clip(refinement=0.1, refinement_interval=interval).sample(
            text, generator=generators(2), num_inference_steps=4
        )
        for interval in ((0.0, 1.0), (0.9, 1.0), (0.8, 0.9))
    }
    plain = make_clip(refinement=0).sample(text, generator=generators(2), num_inference_steps=4)
    assert torch.equal(drawn[0.8, 0.9], plain)  # the steps are at 1, 0.75, 0.5 and 0.25
    assert not torch.equal(drawn[0.9, 1.0], plain)
    always = cosine(make_clip(), drawn[0.0, 1.0], text)
    assert (always > cosine(make_clip(), plain, text)).all()


def test_captions_straight_from_the_text_tower_can_be_drawn() -> None:
    with torch.inference_mode():
        text = make_text(2)
    make_clip(refinement=0.1).sample(text, generator=generators(2), num_inference_steps=2)


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
    with pytest.raises(SalonError, match=message):
        make_clip().sample(make_text(1), generator=generators(1), **arguments)


def test_a_size_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(SalonError, match="make the side a multiple of 8"):
        Clip(ClipConfig(family="clip"), DataShape(20, 8, 8, 8), pixel_frozen(8))
