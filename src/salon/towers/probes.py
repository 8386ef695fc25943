"""What the towers know: captions told apart by one attribute, and zero-shot classification.

One prompt per value, without training anything: the mean embedding of the captions of that value, brought
back to unit length (prompt ensembling in embedding space, Radford 2021, sec. 3.1.4). Averaged over captions
that agree in nothing else, it says the value alone, whatever the attributes and the wording of a source are.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
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

    captions = sorted({caption for found in trials.values() for _, texts in found for caption in texts})
    if not captions:
        return ProbeResult({}, 0)
    number = {caption: i for i, caption in enumerate(captions)}
    texts = tower.encode_text(captions).pooled.cpu()
    images = embed_pictures(tower, pictures.images)
    right = {
        name: [
            int((texts[[number[text] for text in candidates]] @ images[i]).argmax()) == 0
            for i, candidates in found
        ]
        for name, found in trials.items()
    }
    accuracy = {name: sum(found) / len(found) for name, found in right.items()}
    return ProbeResult(accuracy, sum(map(len, right.values())))


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
    asked = {name: [i for i, row in enumerate(pictures.attributes) if name in row] for name in names}
    if not any(asked.values()):
        return {}
    captions = sorted(set(vocabulary.captions))
    number = {caption: i for i, caption in enumerate(captions)}
    rows = [number[caption] for caption in vocabulary.captions]
    texts = tower.encode_text(captions).pooled.cpu()[rows]  # a row each, so that frequent captions weigh more
    images = embed_pictures(tower, pictures.images)
    accuracy = {}
    for name, chosen in asked.items():
        if not chosen:
            continue
        values, prompts = value_prompts(texts, vocabulary.attributes, name)
        nearest = (images[chosen] @ prompts.T).argmax(dim=1).tolist()
        found = [values[best] for best in nearest]
        right = [value == pictures.attributes[i][name] for value, i in zip(found, chosen, strict=True)]
        accuracy[name] = sum(right) / len(right)
    return accuracy
