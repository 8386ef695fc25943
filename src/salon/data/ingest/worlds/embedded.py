"""The worlds made of the emoji artwork, whichever `ingest.source` names."""

from collections.abc import Iterator
from pathlib import Path

from salon.data.ingest.worlds import emoji, emoji_pairs, emoji_pictures
from salon.data.ingest.worlds.phrasebook import KnownSources
from salon.data.schema import Row
from salon.params import IngestParams

NAMES = ("emoji", "emoji_pairs", "emoji_pictures")


def count_rows(params: IngestParams) -> int:
    """How many rows `read_rows` will yield, for the progress bar."""
    match params.source:
        case "emoji":
            return emoji.count_rows(params.scenes)
        case "emoji_pairs":
            return emoji_pairs.count_rows(params.pairs)
        case _:
            return emoji_pictures.count_rows(params.drawings)


def read_rows(params: IngestParams, *, archive: Path, seed: int) -> Iterator[Row]:
    """Every row of the chosen world.

    Raises:
        SalonError: the archive is missing or unreadable, or lacks what the settings ask for.
    """
    match params.source:
        case "emoji":
            return emoji.read_rows(params.scenes, archive=archive, seed=seed)
        case "emoji_pairs":
            return emoji_pairs.read_rows(params.pairs, archive=archive, seed=seed)
        case _:
            return emoji_pictures.read_rows(params.drawings, archive=archive, seed=seed)


def known_sources(params: IngestParams, *, archive: Path) -> KnownSources:
    """How captions of the chosen source speak, and whether its pictures look alike by design.

    Raises:
        SalonError: the archive is missing or unreadable.
    """
    match params.source:
        case "emoji":
            book = emoji.read_phrase_book(params.scenes, archive=archive)
            return KnownSources({emoji.SOURCE: book}, frozenset({emoji.SOURCE}))
        case "emoji_pairs":
            pair_book = emoji_pairs.read_phrase_book(params.pairs)
            return KnownSources({emoji_pairs.SOURCE: pair_book}, frozenset({emoji_pairs.SOURCE}))
        case _:  # of one's own pictures nothing is known, and drawings as they are have no ground truth
            return KnownSources({}, frozenset())
