"""Zero-shot classification against towers whose embeddings are known by hand."""

from pathlib import Path

import pytest
import torch

from salon.data.dataset import CaptionedImages, Dataset
from salon.towers.probes import value_prompts, zero_shot_accuracy
from salon.towers.states import TextStates

ATTRIBUTES = [{"colour": colour, "shape": shape} for colour in ("blue", "red") for shape in ("disc", "ring")]
AXES = {"blue": 0, "red": 1, "disc": 2, "ring": 3}


def embed(attributes: dict[str, str]) -> torch.Tensor:
    """One axis per value."""
    vector = torch.zeros(4)
    vector[[AXES[value] for value in attributes.values()]] = 0.5**0.5
    return vector


class KnownTower:
    """Captions are `<colour> <shape>`; the first pixel of a picture is the number of its description."""

    def encode_text(self, captions: list[str]) -> TextStates:
        pooled = torch.stack(
            [embed(dict(zip(("colour", "shape"), text.split(), strict=True))) for text in captions]
        )
        return TextStates(pooled[:, None], torch.ones(len(pooled), 1, dtype=torch.bool), pooled, pooled)

    def encode_images(self, images: torch.Tensor) -> torch.Tensor:
        numbers = images[:, 0, 0, 0].add(1).mul(127.5).round().int().tolist()
        return torch.stack([embed(ATTRIBUTES[number]) for number in numbers])


def pictures(attributes: list[dict[str, str]], shown: list[int]) -> CaptionedImages:
    images = torch.zeros(len(shown), 3, 2, 2, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.tensor(shown, dtype=torch.uint8)
    captions = [" ".join(ATTRIBUTES[number].values()) for number in range(len(shown))]
    return CaptionedImages([""] * len(shown), images, captions, ["en"] * len(shown), attributes)


def test_a_prompt_is_the_mean_of_the_captions_of_its_value() -> None:
    embeddings = torch.stack([embed(row) for row in ATTRIBUTES])
    values, prompts = value_prompts(embeddings, ATTRIBUTES, "colour")
    assert values == ["blue", "red"]
    blue = torch.tensor([2.0, 0, 1, 1])  # its own axis twice, each shape once
    assert torch.allclose(prompts[0], blue / blue.norm())


def test_accuracy_counts_the_pictures_whose_nearest_prompt_is_right() -> None:
    vocabulary = pictures(ATTRIBUTES, [0, 1, 2, 3])
    tower = KnownTower()
    assert zero_shot_accuracy(tower, vocabulary, vocabulary) == {"colour": 1, "shape": 1}
    wrong_shape = pictures(ATTRIBUTES, [1, 1, 2, 3])  # the first shows a ring and is called a disc
    assert zero_shot_accuracy(tower, wrong_shape, vocabulary) == {"colour": 1, "shape": 0.75}


def test_attributes_that_no_picture_has_are_left_out() -> None:
    vocabulary = pictures(ATTRIBUTES, [0, 1, 2, 3])
    partly = pictures([{"colour": row["colour"]} for row in ATTRIBUTES], [0, 1, 2, 3])
    assert zero_shot_accuracy(KnownTower(), partly, vocabulary) == {"colour": 1}
    assert zero_shot_accuracy(KnownTower(), pictures([{}] * 4, [0, 1, 2, 3]), vocabulary) == {}


@pytest.mark.parametrize("split", ["val", "novel"])
def test_works_on_ingested_pictures(ingested_world: Path, split: str) -> None:
    """Colour alone, through the same calls as the real towers: the background is what has the mean colour."""
    train = Dataset(ingested_world / "data/interim")["train"]
    held_out = Dataset(ingested_world / "data/interim")[split]
    means = {}
    for value in {row["background"] for row in train.attributes}:
        rows = [i for i, row in enumerate(train.attributes) if row["background"] == value]
        means[value] = train.images[rows].float().div(127.5).sub(1)[:, :, 0].mean(dim=(0, 2))
    of_caption = dict(zip(train.captions, train.attributes, strict=True))

    class ColourTower(KnownTower):
        def encode_text(self, captions: list[str]) -> TextStates:
            colour = torch.stack([means[of_caption[caption]["background"]] for caption in captions])
            pooled = torch.nn.functional.normalize(colour, dim=1)
            return TextStates(pooled[:, None], torch.ones(len(pooled), 1, dtype=torch.bool), pooled, pooled)

        def encode_images(self, images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.normalize(images[:, :, 0].mean(dim=2), dim=1)

    accuracy = zero_shot_accuracy(ColourTower(), held_out, train)
    assert accuracy["background"] > 0.9
    assert accuracy["concept"] < 0.6
