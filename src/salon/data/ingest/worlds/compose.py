"""Rows that are made, not found: every row from its split and number alone, on all cores."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8

from salon.cpus import count_cpus
from salon.data.ingest.images import perceptual_hashes
from salon.data.ingest.worlds.scenes import Artwork, encode_png
from salon.data.schema import Row
from salon.errors import SalonError
from salon.paths import SPLITS

CHUNK = 256  # rows per task of a worker process
SEEN = "seen"  # combinations that training has

Combination = tuple[str, str, str]


class Composer(Protocol):
    """What travels to each worker process, once."""

    def compose(self, split: str, index: int) -> Row:
        """Row `index` of `split`: the same whoever asks, and whatever else is composed."""


def sort_by_novelty(
    everything: Iterable[Combination], novelties: Mapping[str, Callable[[Combination], bool]], *, section: str
) -> dict[str, list[Combination]]:
    """`SEEN`, or the one kind of novelty that a combination has -> those combinations.

    `novel` shows each kind alone: what has two of them is left out.

    Raises:
        SalonError: one is empty; `section` holds the counts.
    """
    found: dict[str, list[Combination]] = {kind: [] for kind in (SEEN, *novelties)}
    for combination in everything:
        kinds = [kind for kind, is_novel in novelties.items() if is_novel(combination)]
        if len(kinds) <= 1:
            found["".join(kinds) or SEEN].append(combination)
    for kind, members in found.items():
        if not members:
            raise SalonError(f"{section}: no combination is left for {kind}: hold out other counts")
    return found


@dataclass(frozen=True)
class SceneComposer(ABC):
    """Composer of scenes: the combination that a row shows is drawn first, then all that varies around it."""

    params: Any
    combinations: Mapping[str, list[Combination]]
    """As `sort_by_novelty` gives them."""
    artwork: Mapping[tuple[str, str], Artwork]
    seed: int

    def compose(self, split: str, index: int) -> Row:
        rng = np.random.default_rng([self.seed, 1 + SPLITS.index(split), index])
        kinds = [kind for kind in self.combinations if kind != SEEN]  # share `novel` equally
        pool = self.combinations[kinds[index % len(kinds)] if split == "novel" else SEEN]
        return self.show(pool[rng.integers(len(pool))], split=split, rng=rng)

    @abstractmethod
    def show(self, combination: Combination, *, split: str, rng: np.random.Generator) -> Row:
        """A scene of this combination."""


def rendered_row(
    pixels: UInt8[np.ndarray, "h w 3"], *, caption: str = "", lang: str = "", **columns: Any
) -> Row:
    """The row of a picture that was rendered here; `columns` are the others that `Row` asks for."""
    height, width, _ = pixels.shape
    return Row(
        image_bytes=encode_png(pixels),
        caption=caption,
        lang=lang,
        width=width,
        height=height,
        phash=perceptual_hashes([pixels])[0],
        **columns,
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
