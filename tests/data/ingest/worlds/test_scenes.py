"""Scenes against what can be worked out by hand: colours, areas, compositing, words."""

import io

import numpy as np
import pytest
from PIL import Image

from salon.data.ingest.worlds.scenes import (
    BACKGROUNDS,
    PHRASINGS,
    Artwork,
    encode_png,
    render_scene,
    write_caption,
)

SHADE, FALL = 8, 18  # how far a background's colour may stray: shift, and vertical gradient


def draw(rgba: tuple[int, int, int, int]) -> Artwork:
    """A drawing that fills its frame with one colour."""
    pixels = np.empty((64, 64, 4), dtype=np.uint8)
    pixels[...] = rgba
    return Artwork(
        rgba=pixels,
        concept="owl",
        style="noto",
        concept_names={"en": "owl", "ru": "сова"},
        style_names={"en": "noto emoji", "ru": "noto"},
        licence="x",
        attribution="y",
    )


def render(artwork: Artwork, background: str = "dark", *, seed: int = 0, **changes) -> np.ndarray:
    settings = {"image_size": 32, "scale": (0.5, 0.5), "rotation_degrees": 0.0} | changes
    return render_scene(artwork, background, rng=np.random.default_rng(seed), **settings).pixels


def is_red(pixels: np.ndarray) -> np.ndarray:
    return (pixels[..., 0] > 200) & (pixels[..., 1] < 40)


def test_opaque_drawing_of_full_size_hides_the_background():
    pixels = render(draw((255, 0, 0, 255)), scale=(1.0, 1.0))
    assert np.abs(pixels.astype(int) - [255, 0, 0])[2:-2, 2:-2].max() <= 1


def test_scale_is_the_side_of_the_drawing():
    area = is_red(render(draw((255, 0, 0, 255)), scale=(0.5, 0.5))).mean()
    assert area == pytest.approx(0.25, abs=0.04)


@pytest.mark.parametrize("angle", [0.0, 10.0, 45.0])
def test_drawing_keeps_its_area_when_rotated(angle):
    pixels = render(draw((255, 0, 0, 255)), rotation_degrees=angle, seed=3)
    assert is_red(pixels).mean() == pytest.approx(0.25, abs=0.04)


def test_drawing_stays_inside_the_scene():
    for seed in range(30):
        red = is_red(render(draw((255, 0, 0, 255)), seed=seed))
        assert red.mean() == pytest.approx(0.25, abs=0.04)  # nothing is cut off


def test_half_transparent_drawing_is_blended_once():
    background = np.asarray(BACKGROUNDS["dark"].rgb)
    pixels = render(draw((255, 255, 255, 128)), scale=(1.0, 1.0))[2:-2, 2:-2]
    expected = 255 * (128 / 255) + background * (1 - 128 / 255)
    assert np.abs(pixels - expected).max() <= (SHADE + FALL) / 2 + 2


@pytest.mark.parametrize("name", [name for name, b in BACKGROUNDS.items() if b.stripe_rgb is None])
def test_plain_background_stays_near_its_colour(name):
    pixels = render(draw((0, 0, 0, 0)), name).astype(int)
    assert np.abs(pixels - BACKGROUNDS[name].rgb).max() <= SHADE + FALL + 1


def test_striped_background_shows_both_colours():
    background = BACKGROUNDS["striped"]
    pixels = render(draw((0, 0, 0, 0)), "striped").astype(int)
    for colour in (background.rgb, background.stripe_rgb):
        near = (np.abs(pixels - colour).max(axis=-1) <= SHADE + FALL + 1).mean()
        assert near > 0.2


def test_backgrounds_are_further_apart_than_they_vary():
    means = {
        name: np.mean([render(draw((0, 0, 0, 0)), name, seed=s).mean(axis=(0, 1)) for s in range(8)], axis=0)
        for name in BACKGROUNDS
    }
    for name, mean in means.items():
        for other, other_mean in means.items():
            assert name == other or np.abs(mean - other_mean).max() > 2 * SHADE


def test_all_variation_comes_from_the_generator():
    artwork = draw((255, 0, 0, 255))
    assert np.array_equal(render(artwork, seed=5), render(artwork, seed=5))
    assert not np.array_equal(render(artwork, seed=5), render(artwork, seed=6))


@pytest.mark.parametrize("size", [16, 32, 64])
def test_png_is_lossless_and_has_the_size_asked_for(size):
    pixels = render(draw((10, 200, 30, 255)), image_size=size)
    decoded = np.asarray(Image.open(io.BytesIO(encode_png(pixels))))
    assert decoded.shape == (size, size, 3)
    assert np.array_equal(decoded, pixels)


@pytest.mark.parametrize("lang", sorted(PHRASINGS))
def test_captions_name_everything_in_every_phrasing(lang):
    artwork = draw((0, 0, 0, 255))
    captions = [
        write_caption(artwork, "pink", lang=lang, phrasing=number) for number in range(len(PHRASINGS[lang]))
    ]
    assert len(set(captions)) == len(captions)
    names = (artwork.concept_names[lang], artwork.style_names[lang], getattr(BACKGROUNDS["pink"], lang))
    assert all(name in caption for caption in captions for name in names)


def test_caption_uses_the_right_article():
    assert write_caption(draw((0, 0, 0, 0)), "blue", lang="en", phrasing=0).startswith("an owl ")
