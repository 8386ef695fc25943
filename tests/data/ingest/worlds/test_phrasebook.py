"""A caption that tells another story than its row is found out; an honest one is left alone."""

from itertools import product
from pathlib import Path

import pytest

from salon.data.ingest.worlds import emoji
from salon.data.ingest.worlds.archive import read_artwork
from salon.data.ingest.worlds.phrasebook import PhraseBook
from salon.data.ingest.worlds.scenes import BACKGROUNDS, PHRASINGS, write_caption
from salon.params import load_params
from tiny import ARCHIVE

REPOSITORY = Path(__file__).parents[4]
BOOK = PhraseBook(
    {
        "en": {
            "concept": {"owl": "owl", "green apple": "green apple", "bus": "bus"},
            "background": {"green": "green", "blue": "blue"},
        },
        "ru": {
            "concept": {"owl": "сова"},
            "background": {"green": "зелёном", "blue": "голубом"},
            "style": {"noto": "noto", "noto-v1": "старый noto"},
        },
    }
)


def test_every_caption_of_the_default_world_agrees_with_its_row():
    params = load_params(REPOSITORY / "params.yaml").ingest.settings
    book = emoji.known_sources(params, archive=ARCHIVE).phrase_books[emoji.SOURCE]
    artwork = read_artwork(ARCHIVE, params, section=emoji.SECTION)
    for (concept, style), background in product(artwork, BACKGROUNDS):
        attributes = {"concept": concept, "style": style, "background": background}
        for lang, phrasings in PHRASINGS.items():
            for number in range(len(phrasings)):
                caption = write_caption(artwork[concept, style], background, lang=lang, phrasing=number)
                assert book.disagreement(caption, lang=lang, attributes=attributes) is None


@pytest.mark.parametrize(
    ("caption", "lang", "attributes", "complaint"),
    [
        ("a bus, blue", "en", {"concept": "owl", "background": "blue"}, "does not name concept 'owl'"),
        ("an owlet, blue", "en", {"concept": "owl", "background": "blue"}, "does not name concept 'owl'"),
        ("an owl", "en", {"concept": "owl", "background": "blue"}, "does not name background 'blue'"),
        # the apple's own colour is not the background's
        (
            "a green apple, blue",
            "en",
            {"concept": "green apple", "background": "green"},
            "does not name background 'green'",
        ),
        # the longer name is another style
        (
            "сова, старый noto, на голубом фоне",
            "ru",
            {"concept": "owl", "background": "blue", "style": "noto"},
            "names style 'старый noto'",
        ),
        ("an owl, blue", "ru", {"concept": "owl", "background": "blue", "style": "noto"}, "in ru: 'голубом'"),
        ("an owl, blue", "de", {"concept": "owl"}, "no language 'de'"),
        ("an owl, blue", "en", {"concept": "owl"}, "no attribute 'background'"),
        ("an owl, blue", "en", {"concept": "cat", "background": "blue"}, "no concept 'cat'"),
    ],
)
def test_disagreement_is_named(caption, lang, attributes, complaint):
    assert complaint in BOOK.disagreement(caption, lang=lang, attributes=attributes)


def test_agreement_ignores_case_and_borrowed_colours():
    attributes = {"concept": "green apple", "background": "blue"}
    assert BOOK.disagreement("Green Apple on BLUE", lang="en", attributes=attributes) is None
    attributes = {"concept": "green apple", "background": "green"}
    assert BOOK.disagreement("a green apple on green", lang="en", attributes=attributes) is None
