"""Contrastive training of the towers, and what they know.

InfoNCE in both directions (Radford 2021, fig. 3) with two changes: texts that describe the picture as well as
its own caption are no negatives (with small worlds a batch repeats descriptions, and pushing them apart
teaches noise), and each picture brings captions that differ from its own in one attribute as hard negatives
(NegCLIP, Yuksekgonul 2023). Without them a tower retrieves well and still confuses attributes.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from salon.data.dataset import CaptionedImages
from salon.images import to_float
from salon.towers.tokenizer import words
from salon.towers.tower import ClipTower

Description = tuple[tuple[str, str], ...]


def info_nce(
    image_embeddings: Float[Tensor, "b e"],
    text_embeddings: Float[Tensor, "m e"],
    *,
    logit_scale: Float[Tensor, ""],
    same: Bool[Tensor, "b m"],
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE; the first b texts are the pictures' own, the others hard negatives.

    `same[i, j]` marks texts that fit picture i; except for its own they are left out of the softmax.
    """
    b = image_embeddings.shape[0]
    logits = logit_scale * image_embeddings @ text_embeddings.T  # (b, m)
    own = torch.eye(b, text_embeddings.shape[0], dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(same & ~own, float("-inf"))
    target = torch.arange(b, device=logits.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits[:, :b].T, target)) / 2


class HardNegatives:
    """Finds captions that differ from a picture's own in exactly one attribute."""

    def __init__(self, attributes: Sequence[Mapping[str, str]], caption_of_row: Int[Tensor, "n"]) -> None:
        """`caption_of_row[i]` numbers the caption of row i; rows without attributes have no negatives."""
        self._descriptions: list[Description] = [tuple(sorted(row.items())) for row in attributes]
        self._captions: dict[Description, list[int]] = defaultdict(list)
        for description, caption in zip(self._descriptions, caption_of_row.tolist(), strict=True):
            if description:
                self._captions[description].append(caption)
        neighbours: dict[tuple[int, Description], set[Description]] = defaultdict(set)
        for description in self._captions:
            for position in range(len(description)):
                neighbours[position, _without(description, position)].add(description)
        self._neighbours = {
            description: [
                sorted(neighbours[position, _without(description, position)] - {description})
                for position in range(len(description))
            ]
            for description in self._captions
        }

    def draw(
        self, rows: Int[Tensor, "b"], *, per_row: int, generator: torch.Generator
    ) -> tuple[list[int], list[Description]]:
        """Up to `per_row` captions a row, each with another attribute changed; and what they describe."""
        captions, descriptions = [], []
        for row in rows.tolist():
            options = [found for found in self._neighbours.get(self._descriptions[row], []) if found]
            if not options:
                continue
            for position in torch.randperm(len(options), generator=generator)[:per_row].tolist():
                description = options[position][_draw(len(options[position]), generator)]
                pool = self._captions[description]
                captions.append(pool[_draw(len(pool), generator)])
                descriptions.append(description)
        return captions, descriptions


def _without(description: Description, position: int) -> Description:
    return description[:position] + description[position + 1 :]


def _draw(n: int, generator: torch.Generator) -> int:
    return int(torch.randint(n, (), generator=generator))


class ProbeResult(NamedTuple):
    """Top-1 accuracy per attribute among alternatives that differ in that attribute alone."""

    accuracy: dict[str, float]
    trials: int


def probe_attributes(
    tower: ClipTower, pictures: CaptionedImages, vocabulary: CaptionedImages, *, batch_size: int = 256
) -> ProbeResult:
    """Can the towers tell a picture's caption from captions with one attribute changed?

    For each attribute the alternatives are captions of `vocabulary` in the same language that describe the
    picture but for that attribute, each in the wording closest to the picture's own caption.
    """
    options: dict[tuple[str, Description], list[str]] = defaultdict(list)
    for caption, lang, row in zip(vocabulary.captions, vocabulary.langs, vocabulary.attributes, strict=True):
        options[lang, tuple(sorted(row.items()))].append(caption)
    options = {key: sorted(set(found)) for key, found in options.items()}
    neighbours: dict[tuple[str, int, Description], list[Description]] = defaultdict(list)
    for lang, description in sorted(options):
        for position in range(len(description)):
            neighbours[lang, position, _without(description, position)].append(description)

    trials: dict[str, list[tuple[int, list[str]]]] = defaultdict(list)
    for i, (caption, lang, row) in enumerate(
        zip(pictures.captions, pictures.langs, pictures.attributes, strict=True)
    ):
        own = tuple(sorted(row.items()))
        for position, (name, _) in enumerate(own):
            others = [
                _closest(caption, options[lang, other])
                for other in neighbours[lang, position, _without(own, position)]
                if other != own
            ]
            if others:
                trials[name].append((i, [caption, *others]))

    captions = sorted({caption for found in trials.values() for _, texts in found for caption in texts})
    if not captions:
        return ProbeResult({}, 0)
    number = {caption: i for i, caption in enumerate(captions)}
    texts = tower.encode_text(captions).pooled.cpu()
    images = torch.cat(
        [tower.encode_images(to_float(part)).cpu() for part in pictures.images.split(batch_size)]
    )
    accuracy = {
        name: sum(
            bool((texts[[number[text] for text in candidates]] @ images[i]).argmax() == 0)
            for i, candidates in found
        )
        / len(found)
        for name, found in trials.items()
    }
    return ProbeResult(accuracy, sum(len(found) for found in trials.values()))


def _closest(caption: str, candidates: Sequence[str]) -> str:
    own = set(words(caption))
    return min(candidates, key=lambda candidate: (len(own ^ set(words(candidate))), candidate))
