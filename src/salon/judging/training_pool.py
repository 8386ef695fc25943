"""What the judges learn from: real images, among them half of the novel ones."""

from functools import cached_property

import pandas as pd
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from salon.data.batches import BatchSource, batch_indices
from salon.data.dataset import CaptionedImages
from salon.images import to_float
from salon.judging.classifier import AttributeScorer, LabelledImages
from salon.judging.regressor import MeasuredImages
from salon.judging.retriever import DescribedImages, describe


class TrainingPool(BatchSource):
    """Images in two parts: novel combinations are rare, and shown as often as an eighth of a batch.

    Images without attributes have no novel ones, and neither has what is held out.
    """

    def __init__(self, *parts: CaptionedImages, batch_size: int, seed: int) -> None:
        self.parts = [part for part in parts if len(part)]
        super().__init__(sum(map(len, self.parts)), batch_size=batch_size, seed=seed)
        self.images = torch.cat([part.images for part in self.parts])
        self.captions = [caption for part in self.parts for caption in part.captions]
        self.attributes = [row for part in self.parts for row in part.attributes]

    def rows(self, step: int) -> Int[Tensor, "b"]:
        """Rows of the `step`-th batch; novel ones are numbered after the usual ones."""
        if len(self.parts) == 1:
            return super().rows(step)
        usual, novel = map(len, self.parts)
        share = max(1, self.batch_size // 8)
        rows = batch_indices(step, size=usual, batch_size=self.batch_size - share, seed=self.seed)
        return torch.cat([rows, usual + batch_indices(step, size=novel, batch_size=share, seed=self.seed)])


class LabelledBatches(TrainingPool):
    """For the judge of attributes, `scorer`."""

    def __init__(self, scorer: AttributeScorer, *parts: CaptionedImages, batch_size: int, seed: int) -> None:
        super().__init__(*parts, batch_size=batch_size, seed=seed)
        self.targets = scorer.targets(self.attributes)

    def batch(self, rows: Int[Tensor, "b"], *, step: int) -> LabelledImages:
        targets = {name: value[rows].to(self.device) for name, value in self.targets.items()}
        return LabelledImages(to_float(self.images[rows].to(self.device)), targets)


class DescribedBatches(TrainingPool):
    """For the judge of captions."""

    @cached_property
    def kinds(self) -> Int[Tensor, "n"]:
        """Which rows say the same, whatever the words."""
        said = pd.Series([description for part in self.parts for description in describe(part)])
        return torch.from_numpy(said.factorize()[0])

    def batch(self, rows: Int[Tensor, "b"], *, step: int) -> DescribedImages:
        captions = [self.captions[row] for row in rows.tolist()]
        same = self.kinds[rows][:, None] == self.kinds[rows]
        return DescribedImages(to_float(self.images[rows].to(self.device)), captions, same)


class FactorBatches(BatchSource):
    """Real pictures with what their renderer drew."""

    def __init__(
        self,
        images: UInt8[Tensor, "n 3 h w"],
        factors: Float[Tensor, "n f"],
        *,
        batch_size: int,
        seed: int,
    ) -> None:
        super().__init__(len(images), batch_size=batch_size, seed=seed)
        self.images, self.factors = images, factors

    def batch(self, rows: Int[Tensor, "b"], *, step: int) -> MeasuredImages:
        return MeasuredImages(to_float(self.images[rows].to(self.device)), self.factors[rows].to(self.device))
