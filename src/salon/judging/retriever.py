"""The independent image-text scorer: does a picture find its own caption among others?

R-precision as in AttnGAN (Xu 2018, sec. 4.1): each picture ranks its caption and 99 captions of other things,
and is right when its own comes first. It needs no attributes, so that it judges any captioned pictures.

Captions are bags of hashed words and word pairs (fastText, Joulin 2017), pictures go through plain
convolutions; pairs that belong together are told from those that do not, each by itself (SigLIP, Zhai 2023,
alg. 1). Neither tokenizer, architecture, loss nor seed is shared with the towers that methods see. Like the
scorer it knows half of the `novel` pictures.
"""

import zlib
from collections.abc import Hashable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from salon.data.dataset import CaptionedImages
from salon.images import to_float
from salon.judging.classifier import Judge, degrade
from salon.nn.trainable import Losses
from salon.towers.tokenizer import words

CANDIDATES = 100  # captions that a picture chooses from, its own included (Xu 2018)
BUCKETS = 2**14  # of hashed words and word pairs
INITIAL_SCALE, INITIAL_BIAS = 10.0, -10.0  # Zhai 2023, sec. 3.2
CELLS = 4  # each way: the picture's layout reaches the embedding


class DescribedImages(NamedTuple):
    """A batch of images with their captions; `same[i, j]`: caption j fits image i."""

    images: Float[Tensor, "b 3 h w"]
    captions: list[str]
    same: Bool[Tensor, "b b"]


class Retriever(Judge):
    """Pictures and captions to unit vectors."""

    what = "image-text scorer"

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.config = {"width": width}
        dim = 4 * width
        layers: list[nn.Module] = []
        for before, after in pairwise((3, width, 2 * width, dim)):
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.GroupNorm(8, after), nn.GELU()]
        layers += [nn.AdaptiveAvgPool2d(CELLS), nn.Flatten(), nn.Linear(dim * CELLS**2, dim)]
        self.image = nn.Sequential(*layers)
        self.bag = nn.EmbeddingBag(BUCKETS, dim, mode="mean")
        self.text = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
        self.log_scale = nn.Parameter(torch.tensor(INITIAL_SCALE).log())
        self.bias = nn.Parameter(torch.tensor(INITIAL_BIAS))

    def encode_images(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b e"]:
        """Of pictures in [-1, 1]."""
        return F.normalize(self.image(images), dim=-1)

    def encode_text(self, captions: Sequence[str]) -> Float[Tensor, "b e"]:
        bags = [hash_words(caption) for caption in captions]
        lengths = torch.tensor([0, *(len(bag) for bag in bags[:-1])]).cumsum(0)
        numbers = torch.tensor([number for bag in bags for number in bag])
        device = self.log_scale.device
        return F.normalize(self.text(self.bag(numbers.to(device), lengths.to(device))), dim=-1)

    def losses(self, batch: DescribedImages, *, objective: str, generator: torch.Generator) -> Losses:
        """Mean over degraded images of the loss of all their pairs."""
        similarity = self.encode_images(degrade(batch.images, generator)) @ self.encode_text(batch.captions).T
        logits = self.log_scale.exp() * similarity + self.bias
        signs = batch.same.to(logits.device).float() * 2 - 1
        return Losses(-F.logsigmoid(signs * logits).sum(dim=1).mean())

    @torch.inference_mode()
    def choose(
        self, images: UInt8[Tensor, "n 3 h w"], captions: Sequence[str], candidates: Int[Tensor, "n c"]
    ) -> list[int]:
        """For each picture the candidate, a row of `captions`, that fits it best."""
        device = self.log_scale.device
        pictures = torch.cat([self.encode_images(to_float(part).to(device)) for part in images.split(256)])
        texts = self.encode_text(captions)[candidates.to(device)]  # (n, c, e)
        best = torch.einsum("ne,nce->nc", pictures, texts).argmax(dim=1).cpu()
        return candidates[torch.arange(len(best)), best].tolist()


def hash_words(caption: str) -> list[int]:
    """Buckets of the words and of the pairs of neighbouring words; never empty."""
    found = words(caption) or [""]
    pairs = [" ".join(pair) for pair in pairwise(found)]
    return [zlib.crc32(term.encode()) % BUCKETS for term in (*found, *pairs)]


def describe(data: CaptionedImages) -> list[Hashable]:
    """What each caption says, so that two ways to say it are the same: its attributes, or else its words."""
    rows = zip(data.attributes, data.captions, strict=True)
    return [frozenset(attributes.items()) or caption for attributes, caption in rows]


def draw_candidates(descriptions: Sequence[Hashable], *, seed: int) -> Int[Tensor, "n c"]:
    """For each prompt its own row, and up to 99 rows that describe something else.

    Raises:
        ValueError: there is nothing to confuse a picture with.
    """
    kinds = pd.Series(list(descriptions)).factorize()[0]
    rng = np.random.default_rng(seed)
    others = [np.flatnonzero(kinds != kind) for kind in kinds]
    count = min(CANDIDATES - 1, *map(len, others))
    if not count:
        raise ValueError("all captions describe the same")
    drawn = [[row, *rng.choice(rows, count, replace=False)] for row, rows in enumerate(others)]
    return torch.from_numpy(np.array(drawn, dtype=np.int64))


def retrieval_accuracy(retriever: Retriever, data: CaptionedImages, *, seed: int) -> float:
    """Share of real images that find their own caption."""
    candidates = draw_candidates(describe(data), seed=seed)
    chosen = retriever.choose(data.images, data.captions, candidates)
    return sum(data.captions[row] == own for row, own in zip(chosen, data.captions, strict=True)) / len(data)
