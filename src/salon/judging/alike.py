"""Real pictures that say the same: training rows with a prompt's attributes, or with its very caption."""

from collections import defaultdict
from collections.abc import Hashable, Mapping

from jaxtyping import UInt8
from torch import Tensor

from salon.data.dataset import CaptionedImages
from salon.judging.alignment import CAPTION


class Alike:
    """The training rows by what they show."""

    def __init__(self, training: CaptionedImages) -> None:
        self.training = training
        self._rows: dict[Hashable, list[int]] = defaultdict(list)
        for row in range(len(training)):
            self._rows[_said(training, row)].append(row)

    def rows(self, prompts: CaptionedImages, prompt: int) -> list[int]:
        """Training rows that show what a prompt asks for."""
        return self._rows.get(_said(prompts, prompt), [])

    def of_attributes(self, attributes: Mapping[str, str]) -> list[int]:
        """Training rows with these very attributes; none without ground truth."""
        return self._rows.get(frozenset(attributes.items()), []) if attributes else []

    def further(self, prompts: CaptionedImages, repeat: int) -> UInt8[Tensor, "n 3 h w"]:
        """The `repeat`-th further real picture of what each prompt asks for; its own where there is none."""
        pictures = prompts.images.clone()
        for prompt in range(len(prompts)):
            if rows := self.rows(prompts, prompt):
                pictures[prompt] = self.training.images[rows[(prompt + repeat) % len(rows)]]
        return pictures


def _said(data: CaptionedImages, row: int) -> Hashable:
    return frozenset(data.attributes[row].items()) or data.captions[row]


def wanted(prompts: CaptionedImages) -> list[Mapping[str, str]]:
    """What each prompt asks for: its attributes, or its caption where it has none."""
    texts = zip(prompts.attributes, prompts.captions, strict=True)
    return [attributes or {CAPTION: caption} for attributes, caption in texts]
