"""What the towers know: captions told apart by one attribute, and zero-shot classification.

One prompt per value, without training anything: the mean embedding of the captions of that value, brought
back to unit length (prompt ensembling in embedding space, Radford 2021, sec. 3.1.4). Averaged over captions
that agree in nothing else, it says the value alone, whatever the attributes and the wording of a source are.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import starmap
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from salon.data.dataset import CaptionedImages
from salon.towers.contrastive import Description, rests
from salon.towers.search import embed_pictures
from salon.towers.tokenizer import words
from salon.towers.tower import ClipTower


class ProbeResult(NamedTuple):
    """Top-1 accuracy per attribute among alternatives that differ in that attribute alone."""

    accuracy: dict[str, float]
    trials: int


def probe_attributes(tower: ClipTower, pictures: CaptionedImages, vocabulary: CaptionedImages) -> ProbeResult:
    """Can the towers tell a picture's caption from captions with one attribute changed?

    For each attribute the alternatives are captions of `vocabulary` in the same language that describe the
    picture but for that attribute, each in the wording closest to the picture's own caption.
    """
    options: dict[tuple[str, Description], list[str]] = defaultdict(list)
    for caption, lang, row in zip(vocabulary.captions, vocabulary.langs, vocabulary.attributes, strict=True):
        options[lang, tuple(sorted(row.items()))].append(caption)
    options = {key: sorted(set(found)) for key, found in options.items()}
    neighbours: dict[tuple[str, tuple[int, Description]], list[Description]] = defaultdict(list)
    for lang, description in sorted(options):
        for rest in rests(description):
            neighbours[lang, rest].append(description)

    trials: dict[str, list[tuple[int, list[str]]]] = defaultdict(list)
    for i, (caption, lang, row) in enumerate(
        zip(pictures.captions, pictures.langs, pictures.attributes, strict=True)
    ):
        own = tuple(sorted(row.items()))
        for (name, _), rest in zip(own, rests(own), strict=True):
            near = [other for other in neighbours[lang, rest] if other != own]
            others = [_closest(caption, options[lang, other]) for other in near]
            if others:
                trials[name].append((i, [caption, *others]))

    if not trials:
        return ProbeResult({}, 0)
    texts = _embed(tower, [caption for found in trials.values() for _, texts in found for caption in texts])
    images = embed_pictures(tower, pictures.images)

    def is_right(i: int, candidates: Sequence[str]) -> bool:
        return int((torch.stack([texts[each] for each in candidates]) @ images[i]).argmax()) == 0

    accuracy = {name: sum(starmap(is_right, found)) / len(found) for name, found in trials.items()}
    return ProbeResult(accuracy, sum(map(len, trials.values())))


def _embed(tower: ClipTower, captions: Sequence[str]) -> dict[str, Float[Tensor, "e"]]:
    distinct = sorted(set(captions))
    return dict(zip(distinct, tower.encode_text(distinct).pooled.cpu(), strict=True))


def _closest(caption: str, candidates: Sequence[str]) -> str:
    own = set(words(caption))
    return min(candidates, key=lambda candidate: (len(own ^ set(words(candidate))), candidate))


def value_prompts(
    embeddings: Float[Tensor, "n e"], attributes: Sequence[Mapping[str, str]], name: str
) -> tuple[list[str], Float[Tensor, "k e"]]:
    """The values of attribute `name`, sorted, and the prompt of each from the captions that have it."""
    labels = [row.get(name) for row in attributes]
    values = sorted({label for label in labels if label is not None})
    means = [embeddings[[label == value for label in labels]].mean(dim=0) for value in values]
    return values, F.normalize(torch.stack(means), dim=1)


def zero_shot_accuracy(
    tower: ClipTower, pictures: CaptionedImages, vocabulary: CaptionedImages
) -> dict[str, float]:
    """Share of `pictures` whose nearest prompt is the right one, per attribute.

    The prompts come from the captions of `vocabulary`. Attributes that no picture has are left out.
    """
    names = sorted({name for row in vocabulary.attributes for name in row})
    rows = {name: [i for i, row in enumerate(pictures.attributes) if name in row] for name in names}
    asked = {name: chosen for name, chosen in rows.items() if chosen}
    if not asked:
        return {}
    distinct = _embed(tower, vocabulary.captions)
    texts = torch.stack([distinct[each] for each in vocabulary.captions])  # frequent ones weigh more
    images = embed_pictures(tower, pictures.images)
    accuracy = {}
    for name, chosen in asked.items():
        values, prompts = value_prompts(texts, vocabulary.attributes, name)
        nearest = (images[chosen] @ prompts.T).argmax(dim=1).tolist()
        right = [
            values[best] == pictures.attributes[i][name] for best, i in zip(nearest, chosen, strict=True)
        ]
        accuracy[name] = sum(right) / len(right)
    return accuracy
