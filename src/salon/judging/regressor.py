"""The regressor of factors: where does a picture show its thing, how large, how turned, in what light?

Rows of rendered scenes keep what was drawn at random for them. A network of its own learns to read it from
real training pictures; what it reads of held-out ones well enough is compared between pictures of one
caption. Nothing that a method optimises depends on it.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from salon.images import to_float
from salon.judging.classifier import Judge, conv_trunk, degrade
from salon.nn.trainable import Losses

READABLE = 0.5  # least share of a factor's variance that is explained on held-out pictures
CELLS = 4  # each way: where a thing lies must survive the pooling


class MeasuredImages(NamedTuple):
    """A batch of images with their standardised factors."""

    images: Float[Tensor, "b 3 h w"]
    targets: Float[Tensor, "b f"]


class FactorRegressor(Judge):
    """Strided convolutions, pooling to 4x4 cells, one linear read-out for all factors."""

    what = "regressor"

    def __init__(self, explained: Mapping[str, float], *, width: int) -> None:
        """
        Args:
            explained: The factors, each with R² on held-out pictures; 0 before that is known.
        """
        super().__init__()
        self.explained = dict(explained)
        self.config = {"explained": self.explained, "width": width}
        self.trunk, size = conv_trunk(width)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(CELLS), nn.Flatten(), nn.Linear(size * CELLS**2, len(self.explained))
        )

    @property
    def readable(self) -> list[str]:
        """The factors that held-out pictures show well enough."""
        return [name for name, share in self.explained.items() if share >= READABLE]

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """Standardised factors of pictures in [-1, 1]."""
        return self.head(self.trunk(images))

    def losses(self, batch: MeasuredImages, *, objective: str, generator: torch.Generator) -> Losses:
        """Squared error, of degraded images."""
        return Losses(F.mse_loss(self(degrade(batch.images, generator)), batch.targets))

    @torch.inference_mode()
    def read(self, images: UInt8[Tensor, "n 3 h w"], *, batch_size: int = 256) -> Float[Tensor, "n r"]:
        """The readable factors of pictures, standardised, on the CPU."""
        device = next(self.parameters()).device
        columns = [list(self.explained).index(name) for name in self.readable]
        parts = [self(to_float(part).to(device)).cpu() for part in images.split(batch_size)]
        return torch.cat(parts)[:, columns]

    @torch.inference_mode()
    def measure(self, images: UInt8[Tensor, "n 3 h w"], factors: Float[Tensor, "n f"]) -> dict[str, float]:
        """R² of every factor; `factors` are standardised as in training."""
        parts = [self(to_float(part)) for part in images.split(256)]
        error = (torch.cat(parts) - factors).square().mean(dim=0)
        shares = 1 - error / factors.var(dim=0, unbiased=False).clamp(min=1e-12)
        return dict(zip(self.explained, shares.tolist(), strict=True))


def standardise(factors: pd.DataFrame, like: pd.DataFrame, names: Sequence[str]) -> Float[Tensor, "n f"]:
    """Columns `names` of `factors`, less the mean of `like`, over its standard deviation."""
    known = like[list(names)]
    values = (factors[list(names)] - known.mean()) / known.std(ddof=0)
    return torch.tensor(values.to_numpy(np.float32))
