"""Sentinels: picture sources whose place in every metric is known beforehand.

A metric that puts noise above real pictures, or cannot see that captions were shuffled, is broken whatever it
says about methods. Each sentinel answers prompts as a method would and goes through the same jury; how they
must stand to one another is written in `salon.judging.metrics`.

- `real`: held-out real pictures of the very prompts, the ceiling.
- `faint`, `jpeg`: real pictures with noise of two levels of 255, and as JPEG of quality 95: nobody sees
  either.
- `blend`: half of one real picture and half of another: the damage that likeness is measured by.
- `gaps`: real pictures, a quarter of the concepts missing. Faithful, and not all there.
- `codec-<name>`: real pictures through a codec: the floor of every method on it.
- `memoriser-<name>`: `copycat` through a codec: what a method on it draws that knows training by heart. The
  copy test alone judges it.
- `copycat`: a training picture with what the caption asks for, another one for each seed. What only the
  memorisation test can find fault with (it beats every real model in FID: FLD, Jiralerspong 2023).
- `retrieval`: the training picture with the nearest caption, always the same: the floor that a method which
  generates must leave behind on novel prompts.
- `shuffled`: real pictures under each other's captions. As faithful as real ones, and wrong.
- `noise`: each pixel drawn alone.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from scipy import sparse
from torch import Tensor

from salon.codecs.base import Codec
from salon.data.dataset import CaptionedImages
from salon.judging.alike import Alike
from salon.judging.fidelity import blends
from salon.judging.reconstruction import reconstruct
from salon.judging.sentinel_rules import (
    BLEND,
    COPYCAT,
    FAINT,
    GAPS,
    JPEG,
    NOISE,
    REAL,
    RETRIEVAL,
    SENTINELS,
    SHUFFLED,
    THROUGH_CODEC,
)
from salon.towers.tokenizer import words

NAMES = tuple(SENTINELS)
FAINT_NOISE = 2  # levels of 255, standard deviation
JPEG_QUALITY = 95
MISSING = 0.25  # share of the concepts
CODED_AT_ONCE = 64  # pictures
CHUNK = 256  # prompts at a time: a sparse matrix of CHUNK x distinct captions


class Sentinels:
    """All of them, over the training pictures they may copy."""

    def __init__(self, alike: Alike, codecs: Mapping[str, Codec] | None = None) -> None:
        self._alike, self._training = alike, alike.training
        self._codecs = {THROUGH_CODEC + name: codec for name, codec in (codecs or {}).items()}
        self._captions = CaptionIndex(self._training.captions)

    @property
    def names(self) -> tuple[str, ...]:
        """Those of every workspace, then one for each codec."""
        return (*NAMES, *self._codecs)

    def answer(
        self, name: str, prompts: CaptionedImages, *, seed: int, repeat: int = 0
    ) -> UInt8[Tensor, "n 3 h w"]:
        """One picture per prompt; `repeat` numbers further pictures of the same prompts.

        Raises:
            KeyError: there is no such sentinel.
        """
        rng = np.random.default_rng([seed, NAMES.index(name) if name in NAMES else 0, repeat])
        real = prompts.images if repeat == 0 else self._alike.further(prompts, repeat)
        if codec := self._codecs.get(name):
            return reconstruct(codec, real, batch=CODED_AT_ONCE)[0]
        sources: dict[str, Callable[[], Tensor]] = {
            REAL: lambda: real,
            FAINT: lambda: add_noise(real, rng),
            JPEG: lambda: as_jpeg(real),
            BLEND: lambda: blends(real),
            GAPS: lambda: self._leave_out(prompts, real, rng, seed=seed),
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
            nearest = self._training.attributes[int(rows[i])]
            if like := self._alike.of_attributes(attributes) or self._alike.of_attributes(nearest):
                rows[i] = int(rng.choice(like))
        return self._training.images[rows]

    def _leave_out(
        self, prompts: CaptionedImages, real: UInt8[Tensor, "n 3 h w"], rng: np.random.Generator, *, seed: int
    ) -> UInt8[Tensor, "n 3 h w"]:
        """Real pictures of other prompts where the concept is one of those missing."""
        concepts = _concepts(prompts)
        known = sorted(set(concepts))
        count = max(1, round(MISSING * len(known)))
        missing = set(np.random.default_rng(seed).choice(known, count, replace=False).tolist())
        kept = [row for row, concept in enumerate(concepts) if concept not in missing]
        pictures = real.clone()
        for row in (row for row, concept in enumerate(concepts) if concept in missing):
            other = int(rng.choice(kept)) if kept else row
            like = self._alike.rows(prompts, other)
            pictures[row] = self._training.images[int(rng.choice(like))] if like else real[other]
        return pictures


def _concepts(prompts: CaptionedImages) -> list[str]:
    """The attribute with the most values, of each prompt; the caption where there are no attributes."""
    names = list(prompts.attributes[0])
    if not names:
        return list(prompts.captions)
    most = max(names, key=lambda name: len({row[name] for row in prompts.attributes}))
    return [row[most] for row in prompts.attributes]


def add_noise(images: UInt8[Tensor, "n 3 h w"], rng: np.random.Generator) -> UInt8[Tensor, "n 3 h w"]:
    """Pictures with noise that nobody sees."""
    noise = torch.from_numpy(np.rint(rng.normal(0, FAINT_NOISE, images.shape)))
    return (images + noise).clamp(0, 255).to(torch.uint8)


def as_jpeg(images: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 h w"]:
    """Pictures as a JPEG file of high quality keeps them."""

    def code(picture: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, format="JPEG", quality=JPEG_QUALITY, subsampling=0)
        return np.asarray(Image.open(file).convert("RGB"))

    with ThreadPoolExecutor() as pool:
        coded = list(pool.map(code, images.permute(0, 2, 3, 1).numpy()))
    return torch.from_numpy(np.stack(coded)).permute(0, 3, 1, 2).contiguous()


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
