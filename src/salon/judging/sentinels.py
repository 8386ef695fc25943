"""Sentinels: picture sources whose place in every metric is known beforehand.

A metric that puts noise above real pictures, or cannot see that captions were shuffled, is broken whatever it
says about methods. Each sentinel answers prompts as a method would and goes through the same jury; how they
must stand to one another is written in `salon.judging.metrics`.

- `real`: held-out real pictures of the very prompts, the ceiling.
- `copycat`: a training picture with what the caption asks for, another one for each seed. What only the
  memorisation test can find fault with (it beats every real model in FID: FLD, Jiralerspong 2023).
- `retrieval`: the training picture with the nearest caption, always the same: the floor that a method which
  generates must leave behind on novel prompts.
- `shuffled`: real pictures under each other's captions. As faithful as real ones, and wrong.
- `noise`: each pixel drawn alone.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int, UInt8
from scipy import sparse
from torch import Tensor

from salon.data.dataset import CaptionedImages
from salon.judging.sentinel_rules import COPYCAT, NOISE, REAL, RETRIEVAL, SENTINELS, SHUFFLED
from salon.towers.tokenizer import words

NAMES = tuple(SENTINELS)
CHUNK = 256  # prompts at a time: a sparse matrix of CHUNK x distinct captions


class Sentinels:
    """All five, over the training pictures they may copy."""

    def __init__(self, training: CaptionedImages) -> None:
        self._training = training
        self._captions = CaptionIndex(training.captions)
        self._alike: dict[frozenset[tuple[str, str]], list[int]] = {}  # rows with the same attributes
        for row, attributes in enumerate(training.attributes):
            self._alike.setdefault(frozenset(attributes.items()), []).append(row)

    def answer(
        self, name: str, prompts: CaptionedImages, *, seed: int, repeat: int = 0
    ) -> UInt8[Tensor, "n 3 h w"]:
        """One picture per prompt; `repeat` numbers further pictures of the same prompts.

        Raises:
            KeyError: there is no such sentinel.
        """
        rng = np.random.default_rng([seed, NAMES.index(name) if name in NAMES else 0, repeat])
        sources: dict[str, Callable[[], Tensor]] = {
            REAL: lambda: prompts.images if repeat == 0 else self._further(prompts, repeat),
            COPYCAT: lambda: self._copy(prompts, rng),
            RETRIEVAL: lambda: self._training.images[self._captions.nearest(prompts.captions)],
            SHUFFLED: lambda: prompts.images[derange(prompts.captions, rng)],
            NOISE: lambda: torch.from_numpy(rng.integers(256, size=prompts.images.shape, dtype=np.uint8)),
        }
        return sources[name]()

    def _copy(self, prompts: CaptionedImages, rng: np.random.Generator) -> UInt8[Tensor, "n 3 h w"]:
        rows = self._captions.nearest(prompts.captions)
        for i, attributes in enumerate(prompts.attributes):
            # without ground truth, or where training has nothing of the kind, the nearest caption's like
            if like := self._like(attributes) or self._like(self._training.attributes[int(rows[i])]):
                rows[i] = int(rng.choice(like))
        return self._training.images[rows]

    def _further(self, prompts: CaptionedImages, repeat: int) -> UInt8[Tensor, "n 3 h w"]:
        """The `repeat`-th further real picture of what each prompt asks for; its own where there is none."""
        pictures = prompts.images.clone()
        for i, attributes in enumerate(prompts.attributes):
            if rows := self._like(attributes):
                pictures[i] = self._training.images[rows[(i + repeat) % len(rows)]]
        return pictures

    def _like(self, attributes: Mapping[str, str]) -> list[int]:
        """Training rows with these very attributes; none without ground truth."""
        return self._alike.get(frozenset(attributes.items()), []) if attributes else []


class CaptionIndex:
    """Nearest captions by the cosine of their TF-IDF word counts: text alone, no trained network."""

    def __init__(self, captions: Sequence[str]) -> None:
        distinct = pd.Series(captions).drop_duplicates()  # the first row of each
        self._rows = distinct.index.to_numpy()
        vocabulary = sorted({word for caption in distinct for word in words(caption)})
        self._column = {word: column for column, word in enumerate(vocabulary)}
        counts = self._count(distinct.tolist())
        occurs = np.asarray((counts > 0).sum(axis=0)).ravel()
        self._rarity = np.log((1 + len(distinct)) / (1 + occurs)) + 1
        self._known = self._weigh(counts)

    def nearest(self, captions: Sequence[str]) -> Int[Tensor, "n"]:
        """Row of the training caption nearest to each; the first of equals."""
        asked = self._weigh(self._count(captions))
        chunks = (asked[start : start + CHUNK] for start in range(0, len(captions), CHUNK))
        best = [(chunk @ self._known.T).toarray().argmax(axis=1) for chunk in chunks]
        return torch.from_numpy(self._rows[np.concatenate(best)])

    def _count(self, captions: Sequence[str]) -> sparse.csr_array:
        found = [(row, word) for row, caption in enumerate(captions) for word in words(caption)]
        cells = [(row, self._column[word]) for row, word in found if word in self._column]
        rows, columns = np.array(cells, dtype=np.int64).reshape(-1, 2).T
        shape = (len(captions), len(self._column))
        return sparse.coo_array((np.ones(len(cells)), (rows, columns)), shape=shape).tocsr()

    def _weigh(self, counts: sparse.csr_array) -> sparse.csr_array:
        weighed = counts.multiply(self._rarity[None]).tocsr()
        length = np.sqrt(np.asarray(weighed.power(2).sum(axis=1)).ravel())
        return weighed.multiply((1 / np.maximum(length, 1e-12))[:, None]).tocsr()


def derange(captions: Sequence[str], rng: np.random.Generator) -> Int[Tensor, "n"]:
    """An order in which no row keeps its place: one cycle through all (Sattolo 1986)."""
    order = np.arange(len(captions))
    for i in range(len(captions) - 1, 0, -1):
        j = rng.integers(i)
        order[i], order[j] = order[j], order[i]
    return torch.from_numpy(order)
