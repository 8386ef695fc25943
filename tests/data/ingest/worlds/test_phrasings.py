"""The phrasing of a caption is told from the caption, for every way of asking for every scene."""

from collections import Counter
from itertools import product
from pathlib import Path

import pytest

from salon.data.dataset import Dataset
from salon.data.ingest.worlds.phrasings import phrasing_of, wording_of
from salon.data.ingest.worlds.scenes import BACKGROUNDS, PHRASINGS, STYLES_RU
from salon.paths import Paths

STYLES_EN = {"noto": "noto emoji", "fluent-3d": "3D fluent", "noto-v1": "old, blobby noto"}


@pytest.mark.parametrize("lang", sorted(PHRASINGS))
def test_every_phrasing_of_every_scene_is_recognised(lang: str) -> None:
    styles = STYLES_EN if lang == "en" else STYLES_RU
    concepts = ["owl", "birthday cake", "man in suit, levitating"]
    for style, concept, background in product(styles, concepts, BACKGROUNDS):
        for number, template in enumerate(PHRASINGS[lang], start=1):
            caption = template.format(
                concept=concept,
                a_concept=f"{'an' if concept[0] in 'aeiou' else 'a'} {concept}",
                style=styles[style],
                background=getattr(BACKGROUNDS[background], lang),
            )
            attributes = {"concept": concept, "style": style, "background": background}
            assert phrasing_of(caption, lang=lang, attributes=attributes) == f"{lang}-{number}", caption
            assert wording_of(f"{lang}-{number}") == template


def test_a_world_is_asked_for_in_all_phrasings(ingested_world: Path) -> None:
    rows = Dataset(Paths(ingested_world).interim)["train"]
    found = Counter(
        phrasing_of(caption, lang=lang, attributes=attributes)
        for caption, lang, attributes in zip(rows.captions, rows.langs, rows.attributes, strict=True)
    )
    assert found.keys() == {
        f"{lang}-{number}" for lang, all_of in PHRASINGS.items() for number in range(1, len(all_of) + 1)
    }


@pytest.mark.parametrize(
    ("caption", "lang", "attributes"),
    [
        ("two dogs, one ball, sandy background", "en", {}),
        ("two dogs, one ball, sandy background", "en", {"concept": "dog"}),
        ("an owl", "en", {"concept": "owl", "style": "noto", "background": "blue"}),
        ("Eule, noto", "de", {"concept": "owl", "style": "noto", "background": "blue"}),
    ],
)
def test_captions_of_others_have_no_phrasing(caption: str, lang: str, attributes: dict[str, str]) -> None:
    assert phrasing_of(caption, lang=lang, attributes=attributes) is None


def test_unknown_phrasings_have_no_wording() -> None:
    assert [wording_of(name) for name in ("en-0", "en-99", "de-1", "x", "")] == [None] * 5
