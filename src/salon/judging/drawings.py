"""Drawings: does a picture reproduce one identifiable drawing of training, wherever it stands?

A picture shows a known drawing if it is far nearer to the scenes of one than to those of any other: d1 /
d2, each the distance to the nearest scene of a drawing. The null are scenes of drawings in the same styles
that training lacks: the threshold is the ratio that `FALSE_ALARMS` of them undercut. Unlike a copied scene
this is what a text-to-image model is asked for where training knows the combination: real pictures do it,
too (99 % of `test` on the default world). It says that what is drawn is someone's drawing, and asked for a
combination that training lacks, it says how often another drawing is drawn instead.

Before a background that a drawing never had in training it is not known (7 % of real pictures of `novel`
are): thumbnails hold the background, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from salon.judging.memorisation import CHUNK, squared_distances, thumbnails
from salon.judging.statistics import Clusters, Estimate, bootstrap_mean

FALSE_ALARMS = 0.01


@dataclass(frozen=True)
class DrawingTest:
    """The training pictures by the drawing that they show."""

    thumbs: Float[Tensor, "n d"]
    names: Sequence[str]
    """Of the drawings."""
    drawing: Int[Tensor, "n"]
    """Number of each picture's drawing."""
    threshold: float

    @classmethod
    def against(
        cls, strangers: UInt8[Tensor, "m 3 h w"], thumbs: Float[Tensor, "n d"], drawings: Sequence[str]
    ) -> "DrawingTest":
        """With the threshold that the scenes of `strangers` set; `drawings` names that of each picture."""
        names, number = np.unique(drawings, return_inverse=True)
        blind = cls(thumbs, names.tolist(), torch.from_numpy(number), 0.0)
        ratios = blind.identify(strangers)[0].sort().values
        least = max(1, int(FALSE_ALARMS * len(ratios)))
        return cls(blind.thumbs, blind.names, blind.drawing, float(ratios[least - 1]))

    def identify(self, images: UInt8[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b"], Int[Tensor, "b"]]:
        """Of each picture d1 / d2, and the number of the nearest drawing."""
        ratios, drawings = [], []
        for part in thumbnails(images).split(CHUNK):
            squared = squared_distances(part, self.thumbs)
            by_drawing = torch.full((len(part), len(self.names)), torch.inf)
            by_drawing = by_drawing.scatter_reduce(1, self.drawing.expand_as(squared), squared, "amin")
            nearest = by_drawing.topk(2, dim=1, largest=False)
            distance = nearest.values.clamp(min=0).sqrt()
            ratios.append(distance[:, 0] / distance[:, 1].clamp(min=1e-6))
            drawings.append(nearest.indices[:, 0])
        return torch.cat(ratios), torch.cat(drawings)

    def judge(
        self,
        images: UInt8[Tensor, "b 3 h w"],
        asked: Sequence[str],
        *,
        bootstrap_samples: int,
        seed: int,
        clusters: Clusters = None,
    ) -> tuple[Estimate, Estimate]:
        """Share that shows the drawing that was `asked` for, and share that shows another of training."""
        ratios, drawings = self.identify(images)
        known = (ratios <= self.threshold).numpy()
        pairs = zip(drawings.tolist(), asked, strict=True)
        right = np.array([self.names[number] == name for number, name in pairs])
        rng = np.random.default_rng(seed)
        own, other = (
            bootstrap_mean(shown, samples=bootstrap_samples, rng=rng, clusters=clusters)
            for shown in (known & right, known & ~right)
        )
        return own, other
