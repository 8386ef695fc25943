"""Memorisation: are generated pictures copies of training pictures?

The distance to the nearest training picture says little by itself: it is small for plain scenes and large for
busy ones, and blur or noise of a generator adds to it. A copy is told by *standing out*: it is far nearer to
one training picture than to the next ones (the ratio test of Carlini 2023, sec. 4.2, there with 50
neighbours), d1 / d5 here. Pictures that real people drew after training, never seen by it, give the null: the
threshold is the ratio that only `FALSE_ALARMS` of held-out real pictures undercut.

Distances are between thumbnails of 6x6 cells whose mean colour counts a third: coarse, since a generator's
copy is never exact to the pixel. Measured on the default world (24,000 training pictures that differ by
jitter alone) at 1 % false alarms, share of planted copies found: exact 100 %; blurred by 0.4 of a 3x3 mean
with noise of 0.05 99 %, and 66 % with 16x16 cells; blurred by 0.8 with noise of 0.08 53 %; blurred twice
12 %; brighter by 4 levels of 255 99 %, by 8 levels 61 %; moved by a pixel 2 %; through a model's codec 0 of
300; noised to sigma = 0.1 and denoised by a flow 11 %. So near-exact copies are measured, and a drawing
copied to another place is none. The null does not hold for generated pictures: where it promises 5 false
alarms of 500, no method has any. Near-twins among the training pictures hide each other's copies; exact
twins are removed first.

The share of copies follows from the share flagged (Rogan & Gladen 1978): (flagged - false alarms) / (power -
false alarms). All three are counts, their uncertainty is Beta, exact for the threshold (an order statistic).
Where fewer pictures are flagged than false alarms are expected, most of these draws would be below zero, and
cut off there they would say "no copies, for certain". The upper end is therefore that of the draws that a
share allows: flagging nothing in n pictures leaves room for 3.4/n, however many false alarms were expected.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy.stats import beta
from torch import Tensor
from torch.nn import functional as F

from salon.images import to_float, to_uint8
from salon.judging.record import CopyFigures
from salon.judging.statistics import LEVEL, Z_POWER_80, Z_TWO_SIDED_5, summarise

FALSE_ALARMS = 0.01  # share of held-out real pictures that the threshold flags
GRID = 6  # cells of a thumbnail each way
MEAN_COLOUR = 0.3  # weight of a thumbnail's mean: a tint hides a copy from a distance that counts it fully
NEIGHBOURS = 5
CANARIES = 300  # planted copies that measure the power
CANARY_BLUR, CANARY_NOISE = 0.4, 0.05  # share of a 3x3 mean, std in [-1, 1]
CHUNK = 256  # pictures at a time: a matrix of CHUNK x training pictures


class Pair(NamedTuple):
    """A generated picture and the training picture nearest to it."""

    generated: int
    training: int
    ratio: float
    """Distance to the nearest over that to the fifth; 0 for an exact copy."""


@dataclass(frozen=True)
class Memorisation(CopyFigures):
    """What the test says of one set of pictures."""

    closest: list[Pair]
    """The most suspicious first, flagged or not."""


class CopyTest:
    """The training pictures, the threshold that held-out pictures set, and the power that canaries show."""

    def __init__(
        self, training: UInt8[Tensor, "n 3 h w"], held_out: UInt8[Tensor, "m 3 h w"], *, seed: int
    ) -> None:
        """
        Raises:
            ValueError: there are too few pictures for the null to be known.
        """
        if len(held_out) < 1 / FALSE_ALARMS:
            raise ValueError(f"{len(held_out)} held-out pictures: {1 / FALSE_ALARMS:.0f} are needed")
        generator = torch.Generator().manual_seed(seed)
        # a picture with several captions occurs once, or its twins would hide each other's copies
        self._rows = distinct_rows(training)
        if len(self._rows) <= NEIGHBOURS:
            raise ValueError(f"{len(self._rows)} distinct training pictures are too few")
        self._training = thumbnails(training[self._rows])
        self._seed = seed
        null = self.ratios(held_out).ratio.sort().values
        self._null_size = len(null)
        self._rank = max(1, math.floor(FALSE_ALARMS * len(null)))
        self.threshold = float(null[self._rank - 1])
        planted = torch.randint(len(training), (CANARIES,), generator=generator)
        canaries = make_canaries(training[planted], generator=generator)
        self._canaries_found = int((self.ratios(canaries).ratio <= self.threshold).sum())

    def to_tensors(self) -> dict[str, Tensor]:
        """All that it knows of real pictures, to be kept."""
        return {
            "thumbnails": self._training,
            "rows": self._rows,
            "threshold": torch.tensor(self.threshold, dtype=torch.float64),
            "counts": torch.tensor([self._null_size, self._rank, self._canaries_found, self._seed]),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "CopyTest":
        """What `to_tensors` gave."""
        test = cls.__new__(cls)
        test._training, test._rows = tensors["thumbnails"], tensors["rows"]
        test.threshold = float(tensors["threshold"])
        test._null_size, test._rank, test._canaries_found, test._seed = tensors["counts"].tolist()
        return test

    @property
    def power(self) -> float:
        """Share of planted rough copies that are flagged."""
        return self._canaries_found / CANARIES

    def ratios(self, images: UInt8[Tensor, "b 3 h w"]) -> "Nearest":
        """How much each picture stands out, and its nearest training picture."""
        ratios, rows = [], []
        size = (self._training**2).sum(dim=1)
        for part in thumbnails(images).split(CHUNK):
            squared = (part**2).sum(dim=1, keepdim=True) + size - 2 * part @ self._training.T
            nearest = squared.topk(NEIGHBOURS, dim=1, largest=False)  # (b, 5), ascending
            distances = nearest.values.clamp(min=0).sqrt()
            ratios.append(distances[:, 0] / distances[:, -1].clamp(min=1e-6))
            rows.append(self._rows[nearest.indices[:, 0]])
        return Nearest(torch.cat(ratios), torch.cat(rows))

    def judge(
        self, images: UInt8[Tensor, "b 3 h w"], *, bootstrap_samples: int, pairs: int = 8
    ) -> Memorisation:
        """The share of copies among `images` with its interval, and the closest pairs."""
        found, n = self.ratios(images), len(images)
        flagged = int((found.ratio <= self.threshold).sum())
        rng = np.random.default_rng(self._seed)
        # posteriors under Jeffreys' prior; the threshold's own false alarms are those of an order statistic
        share = rng.beta(flagged + 0.5, n - flagged + 0.5, size=bootstrap_samples)
        alarms = rng.beta(self._rank, self._null_size + 1 - self._rank, size=bootstrap_samples)
        missed = CANARIES - self._canaries_found
        power = rng.beta(self._canaries_found + 0.5, missed + 0.5, size=bootstrap_samples)
        value = _copies(flagged / n, self._rank / (self._null_size + 1), self.power)
        rate = summarise(float(value), draws=_copies(share, alarms, power), n=n)
        noise = math.sqrt(FALSE_ALARMS * (1 / n + 1 / self._null_size))
        detectable = (Z_TWO_SIDED_5 + Z_POWER_80) * noise / max(self.power - FALSE_ALARMS, 1e-9)
        closest = found.ratio.argsort()[:pairs].tolist()
        most = _most_copies(flagged, n, alarms=alarms, power=power, rng=rng)
        return Memorisation(
            copy_rate=replace(rate, high=max(rate.value, most)),
            flagged=flagged / n,
            false_alarms=FALSE_ALARMS,
            power=self.power,
            detectable_rate=min(1.0, detectable),
            closest=[Pair(row, int(found.training[row]), float(found.ratio[row])) for row in closest],
        )


class Nearest(NamedTuple):
    """Per picture."""

    ratio: Float[Tensor, "b"]
    training: Tensor
    """Row of the nearest training picture."""


def thumbnails(images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
    """6x6 cells whose mean colour is weighted down, flat."""
    cells = torch.cat([F.adaptive_avg_pool2d(to_float(part), GRID) for part in images.split(4096)])
    mean = cells.mean(dim=(2, 3), keepdim=True)
    return (cells - (1 - MEAN_COLOUR) * mean).flatten(1)  # (b, 3, 6, 6) -> (b, 108)


def make_canaries(
    images: UInt8[Tensor, "b 3 h w"], *, generator: torch.Generator
) -> UInt8[Tensor, "b 3 h w"]:
    """Copies as a generator would make them: a little soft, a little noisy."""
    exact = to_float(images)
    soft = F.avg_pool2d(F.pad(exact, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    noise = CANARY_NOISE * torch.randn(exact.shape, generator=generator)
    return to_uint8(exact.lerp(soft, CANARY_BLUR) + noise)


def _copies(flagged: float | np.ndarray, alarms: float | np.ndarray, power: float | np.ndarray) -> np.ndarray:
    """Rogan & Gladen's estimate, kept within what a share can be."""
    return np.clip((flagged - alarms) / np.maximum(power - alarms, 1e-9), 0, 1)


def _most_copies(
    flagged: int,
    n: int,
    *,
    alarms: Float[np.ndarray, "s"],
    power: Float[np.ndarray, "s"],
    rng: np.random.Generator,
) -> float:
    """Upper end of the 95 % interval, given that the share of copies is not below zero.

    Each draw of the false alarms counts as much as it leaves the share flagged a chance to lie above it.
    """
    share = beta(flagged + 0.5, n - flagged + 0.5)
    weights = share.sf(alarms)
    if weights.sum() == 0:  # far fewer flagged than numbers this small can hold
        return float(1 - LEVEL[0] ** (1 / n))
    above = share.isf(rng.uniform(size=len(alarms)) * weights)
    rates = _copies(above, alarms, power)
    order = rates.argsort()
    total = weights[order].cumsum() / weights.sum()
    return float(rates[order][np.searchsorted(total, LEVEL[1]).clip(max=len(order) - 1)])


def distinct_rows(
    images: UInt8[Tensor, "n 3 h w"], *, without: UInt8[Tensor, "m 3 h w"] | None = None
) -> Int[Tensor, "r"]:
    """The first row of each distinct picture, in order, but for the pictures of `without`."""
    unwanted = set() if without is None else {picture.tobytes() for picture in without.numpy()}
    first: dict[bytes, int] = {}
    for row, picture in enumerate(images.numpy()):
        if (pixels := picture.tobytes()) not in unwanted:
            first.setdefault(pixels, row)
    return torch.tensor(list(first.values()), dtype=torch.long)
