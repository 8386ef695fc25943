"""Contrastive training of the towers.

InfoNCE in both directions (Radford 2021, fig. 3) with two changes: texts that describe the picture as well as
its own caption are no negatives (with small worlds a batch repeats descriptions, and pushing them apart
teaches noise), and each picture brings captions that differ from its own in one attribute as hard negatives
(NegCLIP, Yuksekgonul 2023). Without them a tower retrieves well and still confuses attributes.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from salon.data.batches import BatchSource
from salon.data.dataset import CaptionedImages
from salon.images import to_float
from salon.nn.trainable import Losses, Trainable
from salon.params import ClipParams
from salon.seeding import step_generator
from salon.towers.tower import TwoTowers, tokenize

T = TypeVar("T")
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
            for rest in rests(description):
                neighbours[rest].add(description)
        self._neighbours = {
            description: [sorted(neighbours[rest] - {description}) for rest in rests(description)]
            for description in self._captions
        }

    def draw(
        self, rows: Int[Tensor, "b"], *, per_row: int, generator: torch.Generator
    ) -> tuple[list[int], list[Description]]:
        """Up to `per_row` captions a row, each with another attribute changed; and what they describe."""
        captions, descriptions = [], []
        for row in rows.tolist():
            options = [found for found in self._neighbours.get(self._descriptions[row], []) if found]
            for position in torch.randperm(len(options), generator=generator)[:per_row].tolist():
                description = _choose(options[position], generator)
                captions.append(_choose(self._captions[description], generator))
                descriptions.append(description)
        return captions, descriptions


class Pairs(NamedTuple):
    """A batch of images and texts; the first b texts are the images' own."""

    images: Float[Tensor, "b 3 h w"]
    input_ids: Int[Tensor, "m n"]
    attention_mask: Int[Tensor, "m n"]
    same: Bool[Tensor, "b m"]
    """Texts that fit an image."""


class PairBatches(BatchSource):
    """Images with their captions, and captions that differ from them in one attribute."""

    def __init__(
        self, data: CaptionedImages, tokenizer: PreTrainedTokenizerFast, settings: ClipParams, *, seed: int
    ) -> None:
        super().__init__(len(data), batch_size=settings.batch_size, seed=seed)
        self.images, self.per_row = data.images, settings.hard_negatives
        distinct = sorted(set(data.captions))
        number = {caption: i for i, caption in enumerate(distinct)}
        self.caption_of_row = torch.tensor([number[caption] for caption in data.captions])
        self.tokens = tokenize(tokenizer, distinct, max_tokens=settings.max_tokens)
        # rows without attributes are described by their caption alone
        descriptions = [
            tuple(sorted(row.items())) or (("caption", caption),)
            for row, caption in zip(data.attributes, data.captions, strict=True)
        ]
        self.numbers = {description: i for i, description in enumerate(dict.fromkeys(descriptions))}
        self.number_of_row = torch.tensor([self.numbers[description] for description in descriptions])
        self.negatives = HardNegatives(data.attributes, self.caption_of_row)

    def batch(self, rows: Int[Tensor, "b"], *, step: int) -> Pairs:
        generator = step_generator(self.seed, step)
        extra, extra_descriptions = self.negatives.draw(rows, per_row=self.per_row, generator=generator)
        own_numbers = self.number_of_row[rows]
        extra_numbers = torch.tensor([self.numbers[each] for each in extra_descriptions], dtype=torch.long)
        captions = torch.cat([self.caption_of_row[rows], torch.tensor(extra, dtype=torch.long)])
        return Pairs(
            images=to_float(self.images[rows]).to(self.device),
            **{name: values[captions].to(self.device) for name, values in self.tokens.items()},
            same=(own_numbers[:, None] == torch.cat([own_numbers, extra_numbers])).to(self.device),
        )


class ContrastiveTask(Trainable):
    """Both towers, told which texts belong to which images."""

    def __init__(self, towers: TwoTowers) -> None:
        super().__init__()
        self.towers = towers

    def losses(self, batch: Pairs, *, objective: str, generator: torch.Generator) -> Losses:
        _, texts = self.towers.encode_text(batch.input_ids, batch.attention_mask)
        images = self.towers.encode_images(batch.images)
        return Losses(info_nce(images, texts, logit_scale=self.towers.logit_scale, same=batch.same))


def rests(description: Description) -> list[tuple[int, Description]]:
    """For each attribute its place, and the description without it."""
    return [(i, description[:i] + description[i + 1 :]) for i in range(len(description))]


def _choose(options: Sequence[T], generator: torch.Generator) -> T:
    return options[int(torch.randint(len(options), (), generator=generator))]
