"""Two things from the emoji archive in one scene, captioned with how they lie to each other.

What a scene shows is held out, however it is said: where a big rocket may not lie above anything, nothing
small may lie below it. Deterministic by seed, like the scenes of one thing.
"""

from collections.abc import Iterator, Mapping
from itertools import permutations, product
from pathlib import Path

import numpy as np

from salon.data.ingest.worlds.archive import check_names, read_artwork
from salon.data.ingest.worlds.base import KnownSources
from salon.data.ingest.worlds.compose import (
    Combination,
    SceneComposer,
    compose_all,
    rendered_row,
    sort_by_novelty,
)
from salon.data.ingest.worlds.pairs import (
    NOUNS,
    RELATIONS,
    PairBook,
    count_phrasings,
    render_pair,
    write_pair_caption,
)
from salon.data.schema import Row
from salon.data.splits import hold_out_pairs, hold_out_partners
from salon.errors import SalonError
from salon.params.worlds import EmojiPairsParams

SOURCE = "emoji-pairs"
SECTION = "ingest.emoji_pairs"


def plan_pairs(params: EmojiPairsParams, *, seed: int) -> dict[str, list[Combination]]:
    """Decide the held-out combinations: `seen` or kind of novelty -> (concept, relation, other).

    A relation is held out of what the big thing (the concept) has to anything, two concepts whichever is big.

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
    return sort_by_novelty(
        (
            (concept, relation, other)
            for (concept, other), relation in product(permutations(params.concepts, 2), RELATIONS)
        ),
        {
            "concept_x_relation": lambda combination: combination[:2] in relations,
            "concept_x_other": lambda combination: frozenset(combination[::2]) in others,
        },
        section=SECTION,
    )


def known_sources(params: EmojiPairsParams, *, archive: Path) -> KnownSources:
    return KnownSources({SOURCE: PairBook(tuple(params.languages))}, frozenset({SOURCE}))


def count_rows(params: EmojiPairsParams) -> int:
    return sum(params.pictures.values())


def read_rows(params: EmojiPairsParams, *, archive: Path, seed: int) -> Iterator[Row]:
    yield from compose_all(open_composer(params, archive=archive, seed=seed), params.pictures)


def open_composer(params: EmojiPairsParams, *, archive: Path, seed: int) -> SceneComposer:
    # first: a misspelt name must not look like too few combinations
    check_names(params.concepts, NOUNS, where=f"{SECTION}.concepts")
    artwork = read_artwork(archive, params, section=SECTION)
    return _Scenes(params, plan_pairs(params, seed=seed), artwork, seed)


class _Scenes(SceneComposer):
    def complete(self, combination: Combination, rng: np.random.Generator) -> dict[str, str]:
        concept, relation, other = combination
        background = self.params.backgrounds[rng.integers(len(self.params.backgrounds))]
        return {"concept": concept, "other": other, "relation": relation, "background": background}

    def show(self, attributes: Mapping[str, str], *, split: str, rng: np.random.Generator) -> Row:
        style = self.params.styles[rng.integers(len(self.params.styles))]
        lang = self.params.languages[rng.integers(len(self.params.languages))]
        big, small = (self.artwork[attributes[name], style] for name in ("concept", "other"))
        scene = render_pair(
            big,
            small,
            attributes,
            image_size=self.params.image_size,
            rotation_degrees=self.params.rotation_degrees,
            rng=rng,
        )
        phrasing = int(rng.integers(count_phrasings(lang)))
        return rendered_row(
            scene.pixels,
            factors=scene.factors,
            caption=write_pair_caption(attributes, lang=lang, phrasing=phrasing),
            lang=lang,
            split=split,
            source=SOURCE,
            licence=" AND ".join(dict.fromkeys([big.licence, small.licence])),
            attribution="; ".join(dict.fromkeys([big.attribution, small.attribution])),
            attributes=attributes,
        )
