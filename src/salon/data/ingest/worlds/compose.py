"""Rows that are made, not found: every row from its split and number alone, on all cores."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8

from salon.cpus import count_cpus
from salon.data.ingest.images import perceptual_hashes
from salon.data.ingest.worlds.scenes import encode_png
from salon.data.schema import Row

CHUNK = 256  # rows per task of a worker process


class Composer(Protocol):
    """What travels to each worker process, once."""

    def compose(self, split: str, index: int) -> Row:
        """Row `index` of `split`: the same whoever asks, and whatever else is composed."""


def rendered_row(
    pixels: UInt8[np.ndarray, "h w 3"],
    *,
    split: str,
    source: str,
    licence: str,
    attribution: str,
    caption: str = "",
    lang: str = "",
    attributes: Mapping[str, str] | None = None,
) -> Row:
    """The row of a picture that was rendered here."""
    height, width, _ = pixels.shape
    return Row(
        image_bytes=encode_png(pixels),
        caption=caption,
        lang=lang,
        width=width,
        height=height,
        phash=perceptual_hashes([pixels])[0],
        split=split,
        source=source,
        licence=licence,
        attribution=attribution,
        attributes=dict(attributes or {}),
    )


def compose_all(composer: Composer, counts: Mapping[Any, int]) -> Iterator[Row]:
    """Every row of the splits (names) whose numbers of rows are `counts`, in order."""
    tasks = (
        (split, start, min(start + CHUNK, total))
        for split, total in counts.items()
        for start in range(0, total, CHUNK)
    )
    workers = count_cpus()
    with ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(composer,)) as pool:
        # a bounded window of futures: memory does not grow with the number of rows
        window = [pool.submit(_compose_chunk, task) for task in islice(tasks, 2 * workers)]
        while window:
            yield from window.pop(0).result()
            window.extend(pool.submit(_compose_chunk, task) for task in islice(tasks, 1))


_composer: Composer  # set once in each worker process


def _start_worker(composer: Composer) -> None:
    global _composer
    _composer = composer


def _compose_chunk(task: tuple[str, int, int]) -> list[Row]:
    split, start, stop = task
    return [_composer.compose(split, index) for index in range(start, stop)]
