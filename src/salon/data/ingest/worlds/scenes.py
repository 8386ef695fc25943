"""Real artwork composed into captioned scenes with exact ground truth.

A scene is one concept in one art style before one background. Position, size, rotation and the shade of the
background vary continuously and stay out of the caption, so that no two scenes have the same pixels.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageChops

ATTRIBUTES = ("concept", "style", "background")
SUPERSAMPLING = 2  # scenes are composed at twice their size, then box-filtered: no jagged edges


@dataclass(frozen=True)
class Background:
    """A backdrop and its names. `ru` is the adjective as it stands in "на … фоне"."""

    en: str
    ru: str
    rgb: tuple[int, int, int]
    stripe_rgb: tuple[int, int, int] | None = None


BACKGROUNDS = {
    "blue": Background("blue", "голубом", (126, 190, 238)),
    "yellow": Background("yellow", "жёлтом", (250, 222, 110)),
    "green": Background("green", "зелёном", (140, 205, 130)),
    "pink": Background("pink", "розовом", (246, 170, 200)),
    "dark": Background("dark", "тёмном", (44, 46, 74)),
    "striped": Background("striped", "полосатом", (238, 236, 244), stripe_rgb=(176, 160, 214)),
}

STYLES_RU = {
    "noto": "noto",
    "noto-v1": "старый noto",
    "twemoji": "плоский twemoji",
    "fluent-flat": "плоский fluent",
    "fluent-color": "объёмный fluent",
    "fluent-3d": "трёхмерный fluent",
    "emojione": "emojione",
    "fxemoji": "firefox os",
}

PHRASINGS = {
    "en": (
        "{a_concept} in {style} style on a {background} background",
        "{style} {concept}, {background} background",
        "a {background} background with {a_concept}, {style}",
        "{a_concept} drawn as {style} against a {background} backdrop",
    ),
    "ru": (
        "{concept}, стиль {style}, на {background} фоне",
        "на {background} фоне {concept} в стиле {style}",
        "рисунок {style}: {concept} на {background} фоне",
        "{concept} на {background} фоне, {style}",
    ),
}


@dataclass(frozen=True)
class Artwork:
    """One drawing: RGBA pixels, its names, and whom to credit."""

    rgba: UInt8[np.ndarray, "h w 4"]
    concept: str
    style: str
    concept_names: Mapping[str, str]
    """Language tag -> how a caption names the concept."""
    style_names: Mapping[str, str]
    licence: str
    attribution: str


class Rendered(NamedTuple):
    """A scene, and what was drawn at random for it."""

    pixels: UInt8[np.ndarray, "s s 3"]
    factors: dict[str, float]
    """What varies and stays out of the caption: lengths as shares of the scene's side, angles in degrees,
    colours in levels of 255."""


def write_caption(artwork: Artwork, background: str, *, lang: str, phrasing: int) -> str:
    """The caption of a scene in language `lang`, in one of `PHRASINGS[lang]`."""
    concept = artwork.concept_names[lang]
    article = "an" if concept[0].lower() in "aeiou" else "a"
    return PHRASINGS[lang][phrasing].format(
        concept=concept,
        a_concept=f"{article} {concept}",
        style=artwork.style_names[lang],
        background=getattr(BACKGROUNDS[background], lang),
    )


def render_scene(
    artwork: Artwork,
    background: str,
    *,
    image_size: int,
    scale: tuple[float, float],
    rotation_degrees: float,
    rng: np.random.Generator,
) -> Rendered:
    """Compose one scene of `image_size` pixels a side; all variation comes from `rng`."""
    canvas = image_size * SUPERSAMPLING
    side = rng.uniform(*scale)  # share of the scene that the drawing's frame takes
    angle = rng.uniform(-rotation_degrees, rotation_degrees)
    slack = (1 - side) / 2 * canvas
    shift_x, shift_y = rng.uniform(-slack, slack, size=2)

    backdrop, light = paint_background(BACKGROUNDS[background], canvas, rng)
    scene = lay_over(backdrop, place(artwork.rgba, canvas, side, angle, shift_x, shift_y))
    pose = {"scale": side, "angle": angle, "shift_x": shift_x / canvas, "shift_y": shift_y / canvas}
    return Rendered(box_filter(scene), pose | light)


def lay_over(
    scene: Float[np.ndarray, "c c 3"], drawing: Float[np.ndarray, "c c 4"]
) -> Float[np.ndarray, "c c 3"]:
    """`drawing`, of premultiplied alpha, in front of `scene`."""
    return drawing[..., :3] + scene * (1 - drawing[..., 3:] / 255.0)


def box_filter(scene: Float[np.ndarray, "c c 3"]) -> UInt8[np.ndarray, "s s 3"]:
    """The scene at the size that it was asked for."""
    side = len(scene) // SUPERSAMPLING
    pooled = scene.reshape(side, SUPERSAMPLING, side, SUPERSAMPLING, 3).mean(axis=(1, 3))
    return np.clip(np.rint(pooled), 0, 255).astype(np.uint8)


def encode_png(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Lossless PNG bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()


def place(
    rgba: UInt8[np.ndarray, "h w 4"], canvas: int, side: float, angle: float, shift_x: float, shift_y: float
) -> Float[np.ndarray, "c c 4"]:
    """The drawing scaled, rotated and shifted on a transparent canvas; premultiplied alpha, 0 to 255."""
    source = Image.fromarray(rgba, mode="RGBA").convert("RGBa")  # premultiplied: no dark fringes
    zoom = source.width / (side * canvas)
    cos, sin = np.cos(np.radians(angle)) * zoom, np.sin(np.radians(angle)) * zoom
    centre_x, centre_y = canvas / 2 + shift_x, canvas / 2 + shift_y
    matrix = (
        cos, sin, source.width / 2 - cos * centre_x - sin * centre_y,
        -sin, cos, source.height / 2 + sin * centre_x - cos * centre_y,
    )  # fmt: skip
    channels = [
        channel.transform((canvas, canvas), Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC)
        for channel in source.split()
    ]
    alpha = channels[3]
    clamped = [ImageChops.darker(channel, alpha) for channel in channels[:3]]  # bicubic may overshoot
    return np.stack([np.asarray(channel, dtype=np.float64) for channel in [*clamped, alpha]], axis=-1)


def paint_background(
    background: Background, canvas: int, rng: np.random.Generator
) -> tuple[Float[np.ndarray, "c c 3"], dict[str, float]]:
    """A soft vertical gradient around the background's colour, or two-coloured diagonal stripes.

    Beside it its factors of variation.
    """
    shade = rng.uniform(-8, 8, size=3)
    gradient = rng.uniform(4, 18)
    factors = {"shade": shade.mean(), "gradient": gradient}
    colour = np.asarray(background.rgb, dtype=np.float64) + shade
    fall = gradient * np.linspace(1, -1, canvas)[:, None, None]
    backdrop = np.broadcast_to(colour + fall, (canvas, canvas, 3))
    if background.stripe_rgb is None:
        return backdrop, factors
    rows, columns = np.mgrid[0:canvas, 0:canvas] / canvas
    wave = np.sin(2 * np.pi * (4 * (rows + columns) + rng.uniform()))
    weight = (np.clip(wave * 3, -1, 1)[..., None] + 1) / 2
    return backdrop * (1 - weight) + (np.asarray(background.stripe_rgb) + shade) * weight, factors
