"""The door to the worlds: a module each, found by its name in `salon.params.sources.SOURCES`.

A world's module has the functions with its own settings in place of all: `count_rows`, `read_rows`,
`known_sources`, and `open_composer` where its scenes can be composed again.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType

from salon.data.ingest.worlds.compose import SceneComposer
from salon.data.ingest.worlds.phrasebook import CaptionBook
from salon.data.schema import Row
from salon.params import IngestParams


@dataclass(frozen=True)
class KnownSources:
    """What the sources at hand tell about their rows."""

    phrase_books: Mapping[str, CaptionBook]
    """Source -> how its captions name attributes; other sources' captions are not held against attributes."""
    rendered: frozenset[str]
    """Sources whose pictures look alike by design: exempt from the search for near-duplicates."""


NOTHING_KNOWN = KnownSources({}, frozenset())


def count_rows(params: IngestParams) -> int:
    """How many rows `read_rows` will yield, for the progress bar."""
    return int(_module(params).count_rows(params.settings))


def read_rows(params: IngestParams, *, archive: Path, seed: int) -> Iterator[Row]:
    """Every row of the chosen world, split by split, rendered on all cores.

    Raises:
        SalonError: the archive is missing or unreadable, or lacks what the settings ask for.
    """
    rows: Iterator[Row] = _module(params).read_rows(params.settings, archive=archive, seed=seed)
    return rows


def open_composer(params: IngestParams, *, archive: Path, seed: int) -> SceneComposer | None:
    """Whoever renders scenes of the chosen source, or `None` where pictures are not rendered.

    Raises:
        SalonError: the archive is missing or unreadable, or lacks what the settings ask for.
    """
    if not params.is_world or not hasattr(_module(params), "open_composer"):
        return None
    composer: SceneComposer = _module(params).open_composer(params.settings, archive=archive, seed=seed)
    return composer


def known_sources(params: IngestParams, *, archive: Path) -> KnownSources:
    """How captions of the chosen source speak, and whether its pictures look alike by design.

    Raises:
        SalonError: the archive is missing or unreadable.
    """
    if not params.is_world:  # of one's own pictures nothing is known
        return NOTHING_KNOWN
    known: KnownSources = _module(params).known_sources(params.settings, archive=archive)
    return known


def _module(params: IngestParams) -> ModuleType:
    return import_module(f"salon.data.ingest.worlds.{params.source}")
