"""Two things from the emoji archive in one scene, captioned with how they lie to each other.

What a scene shows is held out, however it is said: where a big rocket may not lie above anything, nothing
small may lie below it. Deterministic by seed, like the scenes of one thing.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product
from pathlib import Path

import numpy as np

from salon.data.ingest.worlds.archive import check_backgrounds, check_names, read_artwork
from salon.data.ingest.worlds.base import KnownSources
from salon.data.ingest.worlds.compose import compose_all, rendered_row
from salon.data.ingest.worlds.pairs import (
    NOUNS,
    RELATIONS,
    PairBook,
    count_phrasings,
    render_pair,
    write_pair_caption,
)
from salon.data.ingest.worlds.scenes import Artwork
from salon.data.schema import Row
from salon.data.splits import hold_out_pairs, hold_out_partners
from salon.errors import SalonError
from salon.params.worlds import EmojiPairsParams
from salon.paths import SPLITS

SOURCE = "emoji-pairs"
SECTION = "ingest.emoji_pairs"
NOVEL_KINDS = ("concept_x_relation", "concept_x_other")


@dataclass(frozen=True)
class PairWorld:
    """Which combinations exist, and which are kept out of training."""

    held_concept_relation: frozenset[tuple[str, str]]
    """(concept, relation): as the big thing it never has this relation to anything in training."""
    held_concept_other: frozenset[frozenset[str]]
    """Concepts that are never together in training."""
    combinations: dict[str, list[tuple[str, str, str]]]
    """`seen` or kind of novelty -> (concept, relation, other)."""


def plan_pairs(params: EmojiPairsParams, *, seed: int) -> PairWorld:
    """Decide the held-out combinations.

    `novel` shows each kind of novelty alone: a row of one kind has no unseen pair of the other kind.

    Raises:
        SalonError: so many combinations cannot be held out.
    """
    rng = np.random.default_rng([seed, 0])
    try:
        relations = hold_out_pairs(
            params.concepts, list(RELATIONS), count=params.held_out_concept_relation, rng=rng
        )
        others = hold_out_partners(params.concepts, count=params.held_out_concept_other, rng=rng)
    except ValueError as error:
        raise SalonError(f"{SECTION}: {error}") from None
    combinations: dict[str, list[tuple[str, str, str]]] = {"seen": [], **{kind: [] for kind in NOVEL_KINDS}}
    for (concept, other), relation in product(permutations(params.concepts, 2), RELATIONS):
        match (concept, relation) in relations, frozenset((concept, other)) in others:
            case False, False:
                combinations["seen"].append((concept, relation, other))
            case True, False:
                combinations["concept_x_relation"].append((concept, relation, other))
            case False, True:
                combinations["concept_x_other"].append((concept, relation, other))
    empty = [kind for kind, found in combinations.items() if not found]
    if empty:
        raise SalonError(f"{SECTION}: no combination is left for {empty[0]}: hold out other counts")
    return PairWorld(frozenset(relations), frozenset(others), combinations)


def load_artwork(params: EmojiPairsParams, archive: Path) -> dict[tuple[str, str], Artwork]:
    """Read the drawings that the world needs: (concept, style) -> artwork.

    Raises:
        SalonError: the archive is missing or unreadable, or has no picture of a concept in a style.
    """
    check_names(params.concepts, NOUNS, where=f"{SECTION}.concepts")
    check_backgrounds(params.backgrounds, section=SECTION)
    return read_artwork(archive, section=SECTION, concepts=params.concepts, styles=params.styles)


def known_sources(params: EmojiPairsParams, *, archive: Path) -> KnownSources:
    return KnownSources({SOURCE: PairBook(tuple(params.languages))}, frozenset({SOURCE}))


def count_rows(params: EmojiPairsParams) -> int:
    return sum(params.pictures.values())


def read_rows(params: EmojiPairsParams, *, archive: Path, seed: int) -> Iterator[Row]:
    artwork = load_artwork(params, archive)  # first: a misspelt name must not look like too few combinations
    yield from compose_all(_Composer(params, plan_pairs(params, seed=seed), artwork, seed), params.pictures)


@dataclass(frozen=True)
class _Composer:
    params: EmojiPairsParams
    world: PairWorld
    artwork: dict[tuple[str, str], Artwork]
    seed: int

    def compose(self, split: str, index: int) -> Row:
        rng = np.random.default_rng([self.seed, 1 + SPLITS.index(split), index])
        pool = NOVEL_KINDS[index % len(NOVEL_KINDS)] if split == "novel" else "seen"
        combinations = self.world.combinations[pool]
        concept, relation, other = combinations[rng.integers(len(combinations))]
        attributes = {
            "concept": concept,
            "other": other,
            "relation": relation,
            "background": self.params.backgrounds[rng.integers(len(self.params.backgrounds))],
        }
        style = self.params.styles[rng.integers(len(self.params.styles))]
        lang = self.params.languages[rng.integers(len(self.params.languages))]
        big, small = self.artwork[concept, style], self.artwork[other, style]
        pixels = render_pair(
            big,
            small,
            attributes,
            image_size=self.params.image_size,
            rotation_degrees=self.params.rotation_degrees,
            rng=rng,
        )
        return rendered_row(
            pixels,
            caption=write_pair_caption(
                attributes, lang=lang, phrasing=int(rng.integers(count_phrasings(lang)))
            ),
            lang=lang,
            split=split,
            source=SOURCE,
            licence=" AND ".join(dict.fromkeys([big.licence, small.licence])),
            attribution="; ".join(dict.fromkeys([big.attribution, small.attribution])),
            attributes=attributes,
        )
