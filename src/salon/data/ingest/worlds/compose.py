"""Rows that are made, not found: every row from its split and number alone, on all cores."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    """Composer of scenes: what a row shows is drawn first, then all that varies around it."""

    params: Any
    combinations: Mapping[str, list[Combination]]
    """As `sort_by_novelty` gives them."""
    artwork: Mapping[tuple[str, str], Artwork]
    seed: int

    def compose(self, split: str, index: int) -> Row:
        rng = np.random.default_rng([self.seed, 1 + SPLITS.index(split), index])
        kinds = [kind for kind in self.combinations if kind != SEEN]  # share `novel` equally
        pool = self.combinations[kinds[index % len(kinds)] if split == "novel" else SEEN]
        attributes = self.complete(pool[rng.integers(len(pool))], rng)
        return self.show(attributes, split=split, rng=rng)

    def further(self, split: str, index: int) -> Row:
        """A row of the kind of `split` that no split has; other numbers of rows ask for other scenes."""
        return self.compose(split, self.params.pictures[split] + index)

    def again(self, attributes: Mapping[str, str], index: int) -> Row:
        """The `index`-th further scene with a row's attributes, all else drawn anew.

        Raises:
            KeyError: the row is not of this world.
        """
        rng = np.random.default_rng([self.seed, 1 + len(SPLITS), index])
        return self.show(attributes, split="train", rng=rng)

    def drawing(self, attributes: Mapping[str, str]) -> str:
        """Name of the one drawing that a row with these attributes shows; empty where there are several."""
        return ""

    def strangers(self, count: int) -> tuple["SceneComposer", list[dict[str, str]]] | None:
        """A composer of drawings that are none of this world's, and attributes of `count` of its scenes.

        Each is of another drawing, in the same styles and before the same backgrounds; `None` where a row has
        no one drawing.
        """
        return None

    @abstractmethod
    def complete(self, combination: Combination, rng: np.random.Generator) -> dict[str, str]:
        """The attributes of a row that shows this combination."""

    @abstractmethod
    def show(self, attributes: Mapping[str, str], *, split: str, rng: np.random.Generator) -> Row:
        """A scene with these attributes."""


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
    return in_parallel(
        composer.compose, ((split, index) for split, total in counts.items() for index in range(total))
    )


def in_parallel(compose: Callable[..., Row], asked: Iterable[tuple[Any, ...]]) -> Iterator[Row]:
    """`compose(*arguments)` for each of `asked`, in order, on all cores."""
    asked, workers = iter(asked), count_cpus()
    tasks = iter(lambda: list(islice(asked, CHUNK)), [])
    with ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(compose,)) as pool:
        # a bounded window of futures: memory does not grow with the number of rows
        window = [pool.submit(_compose_chunk, task) for task in islice(tasks, 2 * workers)]
        while window:
            yield from window.pop(0).result()
            window.extend(pool.submit(_compose_chunk, task) for task in islice(tasks, 1))


_compose: Callable[..., Row]  # set once in each worker process


def _start_worker(compose: Callable[..., Row]) -> None:
    global _compose
    _compose = compose


def _compose_chunk(task: Sequence[tuple[Any, ...]]) -> list[Row]:
    return [_compose(*arguments) for arguments in task]
