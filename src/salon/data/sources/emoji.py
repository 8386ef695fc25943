"""The embedded source: openly licensed emoji artwork, composed into captioned scenes.

Deterministic by seed: scene `i` of a split draws from its own generator, whatever the number of processes.
"""

import io
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from salon.data.phrasebook import PhraseBook
from salon.data.scenes import (
    BACKGROUNDS,
    PHRASINGS,
    STYLES_RU,
    Artwork,
    encode_png,
    render_scene,
    write_caption,
)
from salon.data.schema import Row
from salon.data.splits import hold_out_pairs
from salon.errors import SalonError
from salon.params import EmojiParams
from salon.paths import SPLITS

SOURCE = "emoji-scenes"
CHUNK = 256  # scenes per task of a worker process
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
    unknown = sorted(set(params.backgrounds) - set(BACKGROUNDS))
    if unknown:
        raise SalonError(f"ingest.emoji.backgrounds: unknown {unknown}; known are {sorted(BACKGROUNDS)}")
    unnamed = sorted(set(params.styles) - set(STYLES_RU))
    if unnamed:
        raise SalonError(f"ingest.emoji.styles: unknown {unnamed}; known are {sorted(STYLES_RU)}")
    artwork: dict[tuple[str, str], Artwork] = {}
    for record in _read_archive(params, archive):
        key = (record["text"], record["style"])
        if key in artwork:  # the archive repeats some drawings; the first one counts
            continue
        artwork[key] = Artwork(
            rgba=np.asarray(Image.open(io.BytesIO(record["image"]["bytes"])).convert("RGBA")),
            concept=record["text"],
            style=record["style"],
            concept_names={"en": record["text"], "ru": record["text_ru"]},
            style_names={"en": record["style_text"], "ru": STYLES_RU[record["style"]]},
            licence=record["licence"],
            attribution=f"{record['attribution']} ({record['source']})",
        )
    missing = [pair for pair in product(params.concepts, params.styles) if pair not in artwork]
    if missing:
        shown = ", ".join(f"{concept!r} in {style!r}" for concept, style in missing[:5])
        others = f" and {len(missing) - 5} others" if len(missing) > 5 else ""
        raise SalonError(f"{archive} has no picture of {shown}{others}")
    return artwork


def read_phrase_book(params: EmojiParams, *, archive: Path) -> PhraseBook:
    """How the captions of this source name concepts, styles and backgrounds.

    Raises:
        SalonError: the archive is missing or unreadable.
    """
    records = _read_archive(params, archive, columns=["text", "text_ru", "style", "style_text"])
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


def _read_archive(
    params: EmojiParams, archive: Path, *, columns: list[str] | None = None
) -> list[dict[str, Any]]:
    if not archive.is_file():
        raise SalonError(f"{archive} does not exist: ingest.path must name the emoji archive")
    wanted = [("text", "in", params.concepts), ("style", "in", params.styles)]
    try:
        return pq.read_table(archive, columns=columns, filters=wanted).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise SalonError(f"{archive} is not a readable emoji archive: {error}") from None


def count_rows(params: EmojiParams) -> int:
    """How many rows `read_rows` will yield, for the progress bar."""
    return sum(params.pictures.values())


def read_rows(params: EmojiParams, *, archive: Path, seed: int) -> Iterator[Row]:
    """Yield every scene of the world, split by split, rendered on all cores."""
    artwork = load_artwork(params, archive)  # first: a misspelt name must not look like too few combinations
    composer = _Composer(params, plan_world(params, seed=seed), artwork, seed)
    tasks = (
        (split, start, min(start + CHUNK, total))
        for split, total in params.pictures.items()
        for start in range(0, total, CHUNK)
    )
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(composer,)) as pool:
        # a bounded window of futures: memory does not grow with the number of scenes
        window = [pool.submit(_compose_chunk, task) for task in islice(tasks, 2 * workers)]
        while window:
            yield from window.pop(0).result()
            window.extend(pool.submit(_compose_chunk, task) for task in islice(tasks, 1))


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
        return Row(
            image_bytes=encode_png(pixels),
            caption=write_caption(
                artwork, background, lang=lang, phrasing=int(rng.integers(len(PHRASINGS[lang])))
            ),
            lang=lang,
            width=self.params.image_size,
            height=self.params.image_size,
            phash=str(imagehash.phash(Image.fromarray(pixels))),
            split=split,
            source=SOURCE,
            licence=artwork.licence,
            attribution=artwork.attribution,
            attributes={"concept": concept, "style": style, "background": background},
        )


_composer: _Composer  # set once in each worker process: the artwork travels there only once


def _start_worker(composer: _Composer) -> None:
    global _composer
    _composer = composer


def _compose_chunk(task: tuple[str, int, int]) -> list[Row]:
    split, start, stop = task
    return [_composer.compose(split, index) for index in range(start, stop)]
