"""Memorisation: are generated pictures copies of training pictures?

Beside every training picture stands another that training did not see, exchangeable with it: where scenes
are rendered, its *shadow*, one more scene of the same attributes (`salon.judging.shadows`). Nothing but
memory draws a picture nearer to one than to the other. By exchangeability the share that lies *nearer* to
training is 1/2 without memory, whatever codec, blur or noise a picture went through: an exact null without
a threshold (as target and decoy in Elias & Gygi 2007, or a knockoff in Barber & Candès 2015).

A copy is moreover *clear*: at most half as far from one picture as from the nearest of the other pool.
Without memory both pools win clearly equally often, so that the wins of the shadows count the false alarms
among those of training. With A and B clear wins of training and shadows among n pictures and among p, b
planted copies,

    share memorised = (A - B) / n / power,   power = (A' - B') / n'.

Planted copies are training pictures that went through the method's own *channel*: its codec, and for flows
noise of sigma 0.1 and their own denoiser. What copies lose beyond that, such as a blur that the method
adds, is not in the power. The nearest picture of each pool is compared through the method's codec, too.

Measured on the default world (24,000 scenes, thumbnails of 8x8): planted copies found through the pixels
100 %, the codecs vqvae and vqgan 96 and 97 %, the denoisers of diffusion and clip 45 and 42 %; nearer to
training are 100, 97 and 99, 100 and 99 %, of held-out pictures through the same channels 49 to 51 %.
Held-out pictures win clearly in 1 % for either pool. The two nearest of each pool would find 99 % through
the codecs at twice the time; 16x16 cells find no more.

Without truth the others are held-out pictures, fewer than training's: both pools are drawn equally large at
random, many times. The null is 1/2 again, if the split was random; a copy is found only where its original
was drawn, so that the power is about the held-out share. Where so few are held out that not even copies
alone would stand out, the test *sees nothing*: it says zero, up to all.

Pictures that are nearest to one and the same training picture are no independent witnesses: counts are
divided by the mean size of such clusters (the design effect, Kish 1965). Counts have Dirichlet posteriors
under Jeffreys' prior. Where chance puts B above A, the upper end is that of the draws that a share allows
(none below zero).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scipy.stats import beta
from torch import Tensor
from torch.nn import functional as F

from salon.data.dataset import CaptionedImages
from salon.images import to_float
from salon.judging.record import CopyFigures, CopyShares
from salon.judging.statistics import LEVEL, Z_POWER_80, Z_TWO_SIDED_5, Estimate

GRID = 8  # cells of a thumbnail each way
CLEAR = 0.5  # largest ratio of the distances to the two pools of a clear copy
PLANTED = 300  # training pictures whose copies measure the power
SUBSETS = 32  # random halves where the pools are not equally large
CHUNK = 256  # pictures at a time: a matrix of CHUNK x training pictures


@dataclass(frozen=True)
class Channel:
    """The way out of a method: what becomes of a picture that it knows by heart."""

    recite: Callable[[CaptionedImages], UInt8[Tensor, "b 3 h w"]]
    """As it would draw them itself."""
    restore: Callable[[UInt8[Tensor, "b 3 h w"]], UInt8[Tensor, "b 3 h w"]] | None = None
    """Through its codec alone, each time alike; `None` of one that leaves pictures as they are."""


class Pair(NamedTuple):
    """A generated picture and the training picture nearest to it."""

    generated: int
    training: int
    ratio: float
    """Distance to it over that to the nearest picture of the other pool; 0 for an exact copy."""


@dataclass(frozen=True)
class Memorisation:
    """What the test says of one set of pictures."""

    shares: CopyShares
    detectable_rate: float
    """Smallest share of copies that so many pictures show in four of five repetitions."""
    closest: list[Pair]
    """The most suspicious first, whether copies or not."""


class Wins(NamedTuple):
    """Per picture, means over the random subsets."""

    training: Float[Tensor, "b"]
    """Clear wins of training."""
    other: Float[Tensor, "b"]
    """Clear wins of the other pool."""
    nearer: Float[Tensor, "b"]
    """Training is nearer, clearly or not; a tie counts half."""
    ratio: Float[Tensor, "b"]
    nearest: Int[Tensor, "b"]
    """Row of the nearest training picture."""


class CopyTest:
    """The training pictures, and as many or fewer that are exchangeable with them."""

    def __init__(
        self,
        thumbs: Float[Tensor, "n d"],
        rows: Int[Tensor, "n"],
        others: UInt8[Tensor, "m 3 h w"],
        *,
        training: Callable[[], CaptionedImages],
        seed: int,
        channel: Channel | None = None,
    ) -> None:
        """
        Args:
            thumbs: Of distinct training pictures.
            rows: Where they stand in the training split, which `training` decodes.
            channel: Of the method to be judged; `None` for pictures as they are.
        """
        self.thumbs, self.rows, self.others = thumbs, rows, others
        self._other_thumbs = thumbnails(others)
        self._training, self._seed = training, seed
        self._restore = channel.restore if channel else None
        generator = torch.Generator().manual_seed(seed)
        size = min(len(rows), len(others))
        self._subsets: list[tuple[Any, ...]] = [(slice(None), slice(None))]
        if len(rows) != len(others):
            self._subsets = [
                tuple(torch.randperm(len(pool), generator=generator)[:size] for pool in (rows, others))
                for _ in range(SUBSETS)
            ]
        planted = torch.randint(len(rows), (PLANTED,), generator=generator)
        copies = thumbs[planted]
        if channel is not None:
            copies = thumbnails(channel.recite(training().take(rows[planted].tolist())))
        self._planted = self.compete(copies)

    @property
    def power(self) -> float:
        """Share of planted copies that win clearly, false alarms taken off."""
        return max(0.0, float((self._planted.training - self._planted.other).mean()))

    def compete(self, thumbs: Float[Tensor, "b d"]) -> Wins:
        """Which pool each picture is nearer to."""
        return Wins(*map(torch.cat, zip(*map(self._compete, thumbs.split(CHUNK)), strict=True)))

    def _compete(self, part: Float[Tensor, "b d"]) -> Wins:
        pools = [squared_distances(part, pool) for pool in (self.thumbs, self._other_thumbs)]
        first = [pool.argmin(dim=1) for pool in pools]
        results = []
        for subsets in self._subsets:
            near, far = (
                squared[:, subset].amin(dim=1).clamp(min=0).sqrt()
                for squared, subset in zip(pools, subsets, strict=True)
            )
            if self._restore and len(self._subsets) == 1:  # all of both pools takes part
                near, far = self._restored(part, *first)
            clear = torch.minimum(near, far) <= CLEAR * torch.maximum(near, far)
            won, tied = (near < far).float(), (near == far).float() / 2
            lost = 1 - won - 2 * tied
            results.append(torch.stack([clear * won, clear * lost, won + tied, near / far.clamp(min=1e-6)]))
        training, other, nearer, ratio = torch.stack(results).mean(dim=0)
        return Wins(training, other, nearer, ratio, self.rows[first[0]])

    def _restored(
        self, part: Float[Tensor, "b d"], nearest: Int[Tensor, "b"], other: Int[Tensor, "b"]
    ) -> list[Float[Tensor, "b"]]:
        """Distances to the nearest picture of each pool, these through the codec."""
        assert self._restore
        distances = []
        for found, images in ((self.rows[nearest], self._training().images), (other, self.others)):
            rows, index = found.unique(return_inverse=True)
            distances.append((thumbnails(self._restore(images[rows]))[index] - part).norm(dim=1))
        return distances

    def judge(
        self, images: UInt8[Tensor, "b 3 h w"], *, bootstrap_samples: int, pairs: int = 8
    ) -> Memorisation:
        """The share of copies among `images` with its interval, and the closest pairs."""
        wins, n = self.compete(thumbnails(images)), len(images)
        detectable = _detectable(float(wins.other.sum()), n, self.power)
        closest = wins.ratio.argsort()[:pairs].tolist()
        return Memorisation(
            CopyShares(self._share(wins, samples=bootstrap_samples), _nearer(wins)),
            detectable_rate=detectable,
            closest=[Pair(row, int(wins.nearest[row]), float(wins.ratio[row])) for row in closest],
        )

    def _share(self, wins: Wins, *, samples: int) -> Estimate:
        n, rng = len(wins.nearest), np.random.default_rng(self._seed)
        planted = _differences(self._planted, samples=samples, rng=rng)
        share = _differences(wins, samples=samples, rng=rng)
        if np.quantile(planted, LEVEL[0]) <= 0 or _detectable(float(wins.other.sum()), n, self.power) >= 1:
            return Estimate(0.0, 0.0, 1.0, n)  # it sees nothing
        power = planted.clip(min=1e-9)
        allowed = share >= 0
        low = float(np.quantile((share / power).clip(0, 1), LEVEL[0]))
        high = 1 - LEVEL[0] ** (1 / n)  # where far more shadows win than chance lets
        if allowed.any():
            high = float(np.quantile((share / power)[allowed].clip(max=1), LEVEL[1]))
        value = float(((wins.training - wins.other).mean() / self.power).clamp(0, 1))
        return Estimate(value, min(low, value), max(high, value), n)

    def figures(self, found: Mapping[str, Memorisation]) -> CopyFigures:
        """Of the pictures of several splits, `test` among them, to be kept."""
        return CopyFigures(
            {split: each.shares for split, each in found.items()},
            power=self.power,
            detectable_rate=found["test"].detectable_rate,
        )


def _differences(wins: Wins, *, samples: int, rng: np.random.Generator) -> Float[np.ndarray, "s"]:
    """Draws of (A - B) / n."""
    won, lost, n = float(wins.training.sum()), float(wins.other.sum()), len(wins.nearest)
    design = _mean_cluster(wins.nearest, wins.training + wins.other)
    counts = np.array([won, lost, n - won - lost]) / design
    draws = rng.dirichlet(counts.clip(min=0) + 0.5, size=samples)
    return draws[:, 0] - draws[:, 1]


def _nearer(wins: Wins) -> Estimate:
    n, nearer = len(wins.nearest), float(wins.nearer.sum())
    design = _mean_cluster(wins.nearest, torch.ones(n))
    low, high = beta.ppf(LEVEL, nearer / design + 0.5, (n - nearer) / design + 0.5)
    return Estimate(nearer / n, float(low), float(high), n)


def _mean_cluster(clusters: Int[Tensor, "b"], weights: Float[Tensor, "b"]) -> float:
    """Mean size of the cluster that a picture lies in, of pictures with weights; at least 1."""
    _, index = clusters.unique(return_inverse=True)
    sizes = torch.zeros(len(clusters)).index_add(0, index, weights)
    return max(1.0, float(sizes.square().sum() / weights.sum().clamp(min=1)))


def _detectable(alarms: float, n: int, power: float) -> float:
    """The share whose count k exceeds its noise, of variance k + 2 alarms, by z."""
    z = Z_TWO_SIDED_5 + Z_POWER_80
    count = z**2 / 2 + z * (z**2 / 4 + 2 * alarms) ** 0.5
    return float(min(1.0, count / n / max(power, 1e-9)))


def squared_distances(left: Float[Tensor, "b d"], right: Float[Tensor, "n d"]) -> Float[Tensor, "b n"]:
    """|l - r|², which rounding may take below zero."""
    return torch.addmm((left**2).sum(dim=1, keepdim=True) + (right**2).sum(dim=1), left, right.T, alpha=-2)


def thumbnails(images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
    """8x8 cells, flat."""
    return torch.cat([F.adaptive_avg_pool2d(to_float(part), GRID) for part in images.split(4096)]).flatten(1)


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
