"""The embedded source: openly licensed emoji artwork, composed into captioned scenes.

Deterministic by seed: scene `i` of a split draws from its own generator, whatever the number of processes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from salon.data.ingest.worlds.archive import check_backgrounds, read_archive, read_artwork
from salon.data.ingest.worlds.base import KnownSources
from salon.data.ingest.worlds.compose import compose_all, rendered_row
from salon.data.ingest.worlds.phrasebook import PhraseBook
from salon.data.ingest.worlds.scenes import (
    BACKGROUNDS,
    PHRASINGS,
    STYLES_RU,
    Artwork,
    render_scene,
    write_caption,
)
from salon.data.schema import Row
from salon.data.splits import hold_out_pairs
from salon.errors import SalonError
from salon.params.worlds import EmojiParams
from salon.paths import SPLITS

SOURCE = "emoji-scenes"
NOVEL_KINDS = ("concept_x_background", "concept_x_style")


@dataclass(frozen=True)
class World:
    """Which combinations exist, and which are kept out of training."""

    held_concept_background: frozenset[tuple[str, str]]
    held_concept_style: frozenset[tuple[str, str]]
    combinations: dict[str, list[tuple[str, str, str]]]
    """Split or kind of novelty -> (concept, style, background)."""


def plan_world(params: EmojiParams, *, seed: int) -> World:
    """Decide the held-out combinations.

    `novel` shows each kind of novelty alone: a row of one kind has no unseen pair of the other kind.

    Raises:
        SalonError: so many combinations cannot be held out.
    """
    rng = np.random.default_rng([seed, 0])
    try:
        backgrounds = hold_out_pairs(
            params.concepts, params.backgrounds, count=params.held_out_concept_background, rng=rng
        )
        styles = hold_out_pairs(params.concepts, params.styles, count=params.held_out_concept_style, rng=rng)
    except ValueError as error:
        raise SalonError(f"ingest.emoji: {error}") from None
    everything = list(product(params.concepts, params.styles, params.backgrounds))
    new_background = [(c, b) in backgrounds for c, _, b in everything]
    new_style = [(c, s) in styles for c, s, _ in everything]
    marked = list(zip(everything, new_background, new_style, strict=True))
    combinations = {
        "seen": [combo for combo, b, s in marked if not b and not s],
        "concept_x_background": [combo for combo, b, s in marked if b and not s],
        "concept_x_style": [combo for combo, b, s in marked if s and not b],
    }
    empty = [kind for kind, found in combinations.items() if not found]
    if empty:
        raise SalonError(f"ingest.emoji: no combination is left for {empty[0]}: hold out other counts")
    return World(frozenset(backgrounds), frozenset(styles), combinations)


def load_artwork(params: EmojiParams, archive: Path) -> dict[tuple[str, str], Artwork]:
    """Read the drawings that the world needs: (concept, style) -> artwork.

    Raises:
        SalonError: the archive is missing or unreadable, or has no picture of a concept in a style.
    """
    check_backgrounds(params.backgrounds, section="ingest.emoji")
    return read_artwork(archive, section="ingest.emoji", concepts=params.concepts, styles=params.styles)


def read_phrase_book(params: EmojiParams, *, archive: Path) -> PhraseBook:
    """How the captions of this source name concepts, styles and backgrounds.

    Raises:
        SalonError: the archive is missing or unreadable.
    """
    records = read_archive(
        archive,
        filters=[("text", "in", params.concepts), ("style", "in", params.styles)],
        columns=["text", "text_ru", "style", "style_text"],
    )
    styles = {record["style"]: record["style_text"] for record in records}
    return PhraseBook(
        {
            "en": {
                "concept": {record["text"]: record["text"] for record in records},
                "style": styles,
                "background": {name: background.en for name, background in BACKGROUNDS.items()},
            },
            "ru": {
                "concept": {record["text"]: record["text_ru"] for record in records},
                "style": {style: STYLES_RU[style] for style in styles if style in STYLES_RU},
                "background": {name: background.ru for name, background in BACKGROUNDS.items()},
            },
        }
    )


def known_sources(params: EmojiParams, *, archive: Path) -> KnownSources:
    return KnownSources({SOURCE: read_phrase_book(params, archive=archive)}, frozenset({SOURCE}))


def count_rows(params: EmojiParams) -> int:
    return sum(params.pictures.values())


def read_rows(params: EmojiParams, *, archive: Path, seed: int) -> Iterator[Row]:
    artwork = load_artwork(params, archive)  # first: a misspelt name must not look like too few combinations
    yield from compose_all(_Composer(params, plan_world(params, seed=seed), artwork, seed), params.pictures)


@dataclass(frozen=True)
class _Composer:
    params: EmojiParams
    world: World
    artwork: dict[tuple[str, str], Artwork]
    seed: int

    def compose(self, split: str, index: int) -> Row:
        rng = np.random.default_rng([self.seed, 1 + SPLITS.index(split), index])
        pool = NOVEL_KINDS[index % len(NOVEL_KINDS)] if split == "novel" else "seen"
        combinations = self.world.combinations[pool]
        concept, style, background = combinations[rng.integers(len(combinations))]
        lang = self.params.languages[rng.integers(len(self.params.languages))]
        artwork = self.artwork[concept, style]
        pixels = render_scene(
            artwork,
            background,
            image_size=self.params.image_size,
            scale=self.params.scale,
            rotation_degrees=self.params.rotation_degrees,
            rng=rng,
        )
        return rendered_row(
            pixels,
            caption=write_caption(
                artwork, background, lang=lang, phrasing=int(rng.integers(len(PHRASINGS[lang])))
            ),
            lang=lang,
            split=split,
            source=SOURCE,
            licence=artwork.licence,
            attribution=artwork.attribution,
            attributes={"concept": concept, "style": style, "background": background},
        )
