"""The embedded source: openly licensed emoji artwork, composed into captioned scenes.

Deterministic by seed: scene `i` of a split draws from its own generator, whatever the number of processes.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from salon.data.ingest.worlds.archive import read_archive, read_artwork
from salon.data.ingest.worlds.base import KnownSources
from salon.data.ingest.worlds.compose import (
    Combination,
    SceneComposer,
    compose_all,
    rendered_row,
    sort_by_novelty,
)
from salon.data.ingest.worlds.phrasebook import PhraseBook
from salon.data.ingest.worlds.scenes import (
    ATTRIBUTES,
    BACKGROUNDS,
    PHRASINGS,
    STYLES_RU,
    render_scene,
    write_caption,
)
from salon.data.schema import Row
from salon.data.splits import hold_out_pairs
from salon.errors import SalonError
from salon.params.worlds import EmojiParams

SOURCE = "emoji-scenes"
SECTION = "ingest.emoji"


def plan_world(params: EmojiParams, *, seed: int) -> dict[str, list[Combination]]:
    """Decide the held-out combinations: `seen` or kind of novelty -> (concept, style, background).

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
        raise SalonError(f"{SECTION}: {error}") from None
    return sort_by_novelty(
        product(params.concepts, params.styles, params.backgrounds),
        {
            "concept_x_background": lambda combination: (combination[0], combination[2]) in backgrounds,
            "concept_x_style": lambda combination: combination[:2] in styles,
        },
        section=SECTION,
    )


def known_sources(params: EmojiParams, *, archive: Path) -> KnownSources:
    records = read_archive(
        archive,
        filters=[("text", "in", params.concepts), ("style", "in", params.styles)],
        columns=["text", "text_ru", "style", "style_text"],
    )
    styles = {record["style"]: record["style_text"] for record in records}
    book = PhraseBook(
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
    return KnownSources({SOURCE: book}, frozenset({SOURCE}))


def count_rows(params: EmojiParams) -> int:
    return sum(params.pictures.values())


def read_rows(params: EmojiParams, *, archive: Path, seed: int) -> Iterator[Row]:
    yield from compose_all(open_composer(params, archive=archive, seed=seed), params.pictures)


def open_composer(params: EmojiParams, *, archive: Path, seed: int) -> SceneComposer:
    # first: a misspelt name must not look like too few combinations
    artwork = read_artwork(archive, params, section=SECTION)
    return _Scenes(params, plan_world(params, seed=seed), artwork, seed, archive)


@dataclass(frozen=True)
class _Scenes(SceneComposer):
    archive: Path

    def drawing(self, attributes: Mapping[str, str]) -> str:
        return f"{attributes['concept']}, {attributes['style']}"

    def strangers(self, count: int) -> tuple[SceneComposer, list[dict[str, str]]] | None:
        params, rng = self.params, np.random.default_rng([self.seed, 2])
        styles: dict[str, set[str]] = defaultdict(set)
        for record in read_archive(self.archive, columns=["text", "style"]):
            styles[record["text"]].add(record["style"])
        others = styles.keys() - set(params.concepts)
        whole = sorted(text for text in others if styles[text] >= set(params.styles))
        if len(whole) < 2:
            return None
        concepts = rng.permutation(whole)[: -(-count // len(params.styles))].tolist()
        strange = params.model_copy(update={"concepts": concepts})
        attributes = [
            dict(zip(ATTRIBUTES, (concept, style, str(rng.choice(params.backgrounds))), strict=True))
            for concept, style in product(concepts, params.styles)
        ]
        artwork = read_artwork(self.archive, strange, section=SECTION)
        return _Scenes(strange, {}, artwork, self.seed, self.archive), attributes

    def complete(self, combination: Combination, rng: np.random.Generator) -> dict[str, str]:
        return dict(zip(ATTRIBUTES, combination, strict=True))

    def show(self, attributes: Mapping[str, str], *, split: str, rng: np.random.Generator) -> Row:
        concept, style, background = (attributes[name] for name in ATTRIBUTES)
        lang = self.params.languages[rng.integers(len(self.params.languages))]
        artwork = self.artwork[concept, style]
        scene = render_scene(
            artwork,
            background,
            image_size=self.params.image_size,
            scale=self.params.scale,
            rotation_degrees=self.params.rotation_degrees,
            rng=rng,
        )
        phrasing = int(rng.integers(len(PHRASINGS[lang])))
        return rendered_row(
            scene.pixels,
            factors=scene.factors,
            caption=write_caption(artwork, background, lang=lang, phrasing=phrasing),
            lang=lang,
            split=split,
            source=SOURCE,
            licence=artwork.licence,
            attribution=artwork.attribution,
            attributes=attributes,
        )
