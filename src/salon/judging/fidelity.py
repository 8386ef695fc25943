"""Fidelity: do generated pictures lie where real ones lie, and do they cover them?

All of it over feature vectors (`salon.judging.features`), generated X against real Y:

- KID (Binkowski 2018, sec. 2): MMD²(X, Y) with k(a, b) = (a·b/d + 1)³, as an unbiased U-statistic. 0 for one
  and the same distribution, sampling may take it below. FID is left out: at some hundred pictures its bias is
  larger than what it should show. It is told as the share of the way from real pictures to blends of two.
- precision, recall (Kynkäänniemi 2019, eq. 1 and 2): share of X inside the balls that reach from each of Y to
  its k-th neighbour in Y; the same with the roles changed.
- density, coverage (Naeem 2020, eq. 3 and 4): how many of those balls hold an x, over k; share of Y whose
  ball holds an x. Robust against single outliers of Y, where precision and recall are not.

Intervals: KID resamples pictures with weights, and pairs of a picture with itself stay out (drawn twice, it
would count as its own twin). Measured coverage: 93 to 95 % away from zero, more than 99 % where X and Y are
one distribution, so that a KID whose interval leaves zero out means something. Where both sides show the same
drawings, drawings are resampled on both sides at once, around the figure itself. The others resample pictures
while the balls stay as they are.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from salon.judging.contest import Finding, jackknife_error
from salon.judging.statistics import Clusters, Estimate, bootstrap_mean, small_sample_widening, summarise

PRECISION_K = 3  # Kynkäänniemi 2019, sec. 3
COVERAGE_K = 5  # Naeem 2020, sec. 3.3
CHUNK = 256  # resamples of KID at a time: a matrix of CHUNK x pictures


@dataclass(frozen=True)
class Neighbours:
    """What neighbours in feature space say of generated against real pictures."""

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def neighbours(
    generated: Float[Tensor, "n d"],
    real: Float[Tensor, "m d"],
    *,
    drawings: tuple[Clusters, Clusters] = (None, None),
    bootstrap_samples: int,
    seed: int,
) -> Neighbours:
    """All four with intervals.

    Args:
        drawings: Which one each picture of either side shows, where these are resampled.

    Raises:
        ValueError: there are not enough pictures for neighbours to exist.
    """
    if min(len(generated), len(real)) <= COVERAGE_K:
        raise ValueError(f"{len(generated)} generated and {len(real)} real pictures: too few to compare")
    rng = np.random.default_rng(seed)
    across = torch.cdist(generated, real)  # (n, m)
    inside = across <= neighbour_distance(real, COVERAGE_K)  # (n, m): x lies in the ball of y
    near_generated = across <= neighbour_distance(generated, PRECISION_K)[:, None]  # y lies in the ball of x
    of_generated, of_real = drawings
    values = (
        ((across <= neighbour_distance(real, PRECISION_K)).any(dim=1), of_generated),  # precision
        (near_generated.any(dim=0), of_real),  # recall
        (inside.sum(dim=1) / COVERAGE_K, of_generated),  # density
        (inside.any(dim=0), of_real),  # coverage
    )
    return Neighbours(
        *(
            bootstrap_mean(each.numpy(), samples=bootstrap_samples, rng=rng, clusters=clusters)
            for each, clusters in values
        )
    )


def neighbour_distance(features: Float[Tensor, "n d"], k: int) -> Float[Tensor, "n"]:
    """Distance of each vector to the k-th nearest of the others."""
    # the nearest of all is the vector itself
    return torch.cdist(features, features).kthvalue(k + 1, dim=1).values


def blends(images: UInt8[Tensor, "n 3 h w"]) -> UInt8[Tensor, "n 3 h w"]:
    """Each picture half and half with one half the list further on: the damage that KID is measured by."""
    other = images.roll(len(images) // 2, dims=0)
    return ((images.int() + other.int() + 1) // 2).to(torch.uint8)


def kid(
    generated: Float[Tensor, "n d"],
    real: Float[Tensor, "m d"],
    *,
    drawings: tuple[Int[np.ndarray, "n"], Int[np.ndarray, "m"]] | None = None,
    bootstrap_samples: int,
    rng: np.random.Generator,
) -> Estimate:
    """Unbiased squared MMD with its interval.

    Args:
        drawings: Which one each picture of either side shows, where these are resampled: on both sides at
            once, since a drawing that one side lacks would be a difference that nobody made.
    """
    x, y = generated.double(), real.double()
    within_x, within_y, across = _kernel(x, x), _kernel(y, y), _kernel(x, y)
    # a picture is no pair with itself
    within_x.fill_diagonal_(0)
    within_y.fill_diagonal_(0)

    def mmd(u: Float[Tensor, "s n"], v: Float[Tensor, "s m"]) -> Float[Tensor, "s"]:
        """MMD² of pictures that count u and v times."""
        return (
            _mean_over_pairs(within_x, u)
            + _mean_over_pairs(within_y, v)
            - 2 * ((u @ across) * v).sum(dim=1) / (u.sum(dim=1) * v.sum(dim=1))
        )

    value = mmd(torch.ones(1, len(x)).double(), torch.ones(1, len(y)).double())
    draws = []
    for start in range(0, bootstrap_samples, CHUNK):
        size = min(CHUNK, bootstrap_samples - start)
        if drawings is None:
            draws.append(mmd(_counts(len(x), size, rng), _counts(len(y), size, rng)))
        else:
            times = _counts(1 + max(int(side.max()) for side in drawings), size, rng)
            draws.append(mmd(*(times[:, side] for side in drawings)))
    found, clusters = torch.cat(draws).numpy(), None
    found = found[np.isfinite(found)]  # of few drawings a resample may hold no pair
    if drawings is not None:
        # a drawing drawn twice brings pairs of its own pictures, which lie close: resamples are too far apart
        clusters = len(np.unique(drawings[0]))
        found = value.item() + small_sample_widening(clusters) * (found - found.mean())
    return summarise(value.item(), draws=found, n=len(x), clusters=clusters)


def kid_terms(generated: Float[Tensor, "n d"], real: Float[Tensor, "m d"]) -> Float[np.ndarray, " n"]:
    """What each generated picture has to do with the KID, which is their mean.

    The first-order term of each (Hájek's projection), so that the difference of two means, over pictures of
    the same prompts, varies as the difference of the KIDs does.
    """
    x, y = generated.double(), real.double()
    within_x, within_y = _kernel(x, x).fill_diagonal_(0), _kernel(y, y).fill_diagonal_(0)
    own = within_x.sum(dim=1) / (len(x) - 1) - _kernel(x, y).mean(dim=1)
    pairs = len(y) * (len(y) - 1)
    rest = within_y.sum() / pairs - _kernel(x, y).mean()
    return (2 * own - own.mean() + rest).numpy()


def compare_kid(
    challenger: Float[Tensor, "n d"],
    champion: Float[Tensor, "n d"],
    real: Float[Tensor, "m d"],
    *,
    drawings: tuple[Int[np.ndarray, "n"], Int[np.ndarray, "m"]],
    scale: float,
) -> Finding:
    """KID of two models from the same real pictures, and how far it is apart.

    Args:
        drawings: Which one each prompt and each real picture shows; each is left out of all three at once.
        scale: KID that counts as 1.
    """
    of_prompts, of_real = (torch.from_numpy(side).long() for side in drawings)
    nobody = 1 + int(torch.cat([of_prompts, of_real]).max())  # whom to leave out is to leave all
    member, real_member = (F.one_hot(side, nobody + 1).T.double() for side in (of_prompts, of_real))  # (c, n)
    n, m = (side.sum() - side.sum(dim=1) for side in (member, real_member))  # (c,): pictures left
    y = real.double()
    within_real = _mean_over_pairs(_kernel(y, y).fill_diagonal_(0), torch.ones(1, len(y)).double()).item()
    found = []
    for generated in (challenger, champion):
        x = generated.double()
        within = _sums_without(member @ _kernel(x, x).fill_diagonal_(0) @ member.T) / (n * (n - 1))
        across = _sums_without(member @ _kernel(x, y) @ real_member.T) / (n * m)
        found.append((within - 2 * across).numpy())
    (ours, theirs), without = (float(each[nobody]) for each in found), found[0] - found[1]
    return Finding(
        (ours + within_real) / scale,
        (theirs + within_real) / scale,
        jackknife_error(without, ours - theirs) / scale,
        n=len(challenger),
        clusters=len(of_prompts.unique()),
        lower_is_better=True,
    )


def _sums_without(sums: Float[Tensor, "c c"]) -> Float[Tensor, "c"]:
    """Sum over pairs of clusters when each is left out in turn."""
    return sums.sum() - sums.sum(dim=0) - sums.sum(dim=1) + sums.diagonal()


def _counts(n: int, samples: int, rng: np.random.Generator) -> Float[Tensor, "samples n"]:
    """How often each of n occurs in resamples of n."""
    return torch.from_numpy(rng.multinomial(n, np.full(n, 1 / n), size=samples)).double()


def _kernel(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Float[Tensor, "n m"]:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _mean_over_pairs(kernel: Float[Tensor, "n n"], weights: Float[Tensor, "s n"]) -> Float[Tensor, "s"]:
    """Weighted mean over pairs of different pictures; the kernel's diagonal is zero."""
    pairs = weights.sum(dim=1) ** 2 - (weights**2).sum(dim=1)
    return ((weights @ kernel) * weights).sum(dim=1) / pairs
