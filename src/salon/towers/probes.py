"""Zero-shot classification by the towers: which value of an attribute does a picture show?

One prompt per value, without training anything: the mean embedding of the captions of that value, brought
back to unit length (prompt ensembling in embedding space, Radford 2021, sec. 3.1.4). Averaged over captions
that agree in nothing else, it says the value alone, whatever the attributes and the wording of a source are.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from salon.data.dataset import CaptionedImages
from salon.images import to_float
from salon.towers.tower import ClipTower


def value_prompts(
    embeddings: Float[Tensor, "n e"], attributes: Sequence[Mapping[str, str]], name: str
) -> tuple[list[str], Float[Tensor, "k e"]]:
    """The values of attribute `name`, sorted, and the prompt of each from the captions that have it."""
    labels = [row.get(name) for row in attributes]
    values = sorted({label for label in labels if label is not None})
    means = [embeddings[[label == value for label in labels]].mean(dim=0) for value in values]
    return values, F.normalize(torch.stack(means), dim=1)


def zero_shot_accuracy(
    tower: ClipTower, pictures: CaptionedImages, vocabulary: CaptionedImages, *, batch_size: int = 256
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
    images = torch.cat(
        [tower.encode_images(to_float(part)).cpu() for part in pictures.images.split(batch_size)]
    )
    accuracy = {}
    for name, chosen in asked.items():
        if not chosen:
            continue
        values, prompts = value_prompts(texts, vocabulary.attributes, name)
        nearest = (images[chosen] @ prompts.T).argmax(dim=1).tolist()
        right = [
            values[best] == pictures.attributes[i][name] for best, i in zip(nearest, chosen, strict=True)
        ]
        accuracy[name] = sum(right) / len(right)
    return accuracy
