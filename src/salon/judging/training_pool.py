"""What the judges learn from: real images, among them half of the novel ones."""

from functools import cached_property

import torch
from jaxtyping import Int
from torch import Tensor

from salon.data.batches import BatchSource, batch_indices
from salon.data.dataset import CaptionedImages
from salon.images import to_float
from salon.judging.classifier import AttributeScorer, LabelledImages
from salon.judging.retriever import DescribedImages, describe


class TrainingPool(BatchSource):
    """Images in two parts: novel combinations are rare, and shown as often as an eighth of a batch.

    Images without attributes have no novel ones, and neither has what is held out.
    """

    def __init__(self, *parts: CaptionedImages, batch_size: int, seed: int) -> None:
        """The usual images, and the novel ones if there are any."""
        self.parts = [part for part in parts if len(part)]
        super().__init__(sum(map(len, self.parts)), batch_size=batch_size, seed=seed)
        self.images = torch.cat([part.images for part in self.parts])
        self.captions = [caption for part in self.parts for caption in part.captions]
        self.attributes = [row for part in self.parts for row in part.attributes]

    def rows(self, step: int) -> Int[Tensor, "b"]:
        """Rows of the `step`-th batch; novel ones are numbered after the usual ones."""
        usual, *novel = self.parts
        share = max(1, self.batch_size // 8) if novel else 0
        rows = batch_indices(step, size=len(usual), batch_size=self.batch_size - share, seed=self.seed)
        if not novel:
            return rows
        rare = batch_indices(step, size=len(novel[0]), batch_size=share, seed=self.seed)
        return torch.cat([rows, len(usual) + rare])


class LabelledBatches(TrainingPool):
    """For the judge of attributes, `scorer`."""

    def __init__(self, scorer: AttributeScorer, *parts: CaptionedImages, batch_size: int, seed: int) -> None:
        super().__init__(*parts, batch_size=batch_size, seed=seed)
        self.targets = scorer.targets(self.attributes)

    def batch(self, rows: Int[Tensor, "b"], *, step: int) -> LabelledImages:
        return LabelledImages(
            to_float(self.images[rows].to(self.device)),
            {name: value[rows].to(self.device) for name, value in self.targets.items()},
        )


class DescribedBatches(TrainingPool):
    """For the judge of captions."""

    @cached_property
    def kinds(self) -> Int[Tensor, "n"]:
        """Which rows say the same, whatever the words."""
        descriptions = [description for part in self.parts for description in describe(part)]
        number = {description: i for i, description in enumerate(dict.fromkeys(descriptions))}
        return torch.tensor([number[description] for description in descriptions])

    def batch(self, rows: Int[Tensor, "b"], *, step: int) -> DescribedImages:
        return DescribedImages(
            to_float(self.images[rows].to(self.device)),
            [self.captions[row] for row in rows.tolist()],
            self.kinds[rows][:, None] == self.kinds[rows],
        )
