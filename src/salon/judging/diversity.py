"""Diversity within a caption: how much do pictures of one caption vary, as a share of what real ones do?

Between thumbnails of 8x8 cells, so that texture and artefacts do not count: what moves is place, size and
shade. The square of the distance is estimated from two interleaved halves of each cell, as the product of the
differences in one half and in the other, which is 0 in expectation for noise that is independent from pixel
to pixel (the crossed distance of Walther 2016, eq. 5).

Where a renderer's factors of variation are known (`salon.judging.regressor`), each has its own figures: the
ratio of standard deviations within a caption, and the distance of Kolmogorov and Smirnov between the values
over all captions.
"""

from dataclasses import replace
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from salon.images import to_float
from salon.judging.statistics import Clusters, Estimate, cluster_sums, small_sample_widening, summarise

GRID = 8  # cells of a thumbnail each way
KS_SAMPLES = 500  # resamples of the distance of two distributions: each sorts all values anew


def thumbnail_distances(several: UInt8[Tensor, "p m 3 h w"]) -> Float[np.ndarray, " p"]:
    """Mean squared distance between the m pictures of each of p captions, pictures in [-1, 1]."""
    halves = torch.stack([_half_thumbnails(each) for each in several.unbind(dim=1)])  # (m, p, 2, d)
    pairs = [(halves[i] - halves[j]).prod(dim=1).mean(dim=1) for i, j in combinations(range(len(halves)), 2)]
    return torch.stack(pairs).mean(dim=0).double().numpy()


def _half_thumbnails(images: UInt8[Tensor, "p 3 h w"]) -> Float[Tensor, "p 2 d"]:
    """The mean colours of cells over the pixels of either colour of a chessboard."""
    pictures = to_float(images)
    rows, columns = torch.arange(pictures.shape[-2])[:, None], torch.arange(pictures.shape[-1])
    white = ((rows + columns) % 2).to(pictures.dtype)
    means = [
        F.adaptive_avg_pool2d(pictures * mask, GRID) / F.adaptive_avg_pool2d(mask[None], GRID)
        for mask in (white, 1 - white)
    ]
    return torch.stack(means, dim=1).flatten(2)


def within_caption_variance(values: Float[Tensor, "p m f"]) -> Float[np.ndarray, "p f"]:
    """Variance of each factor over the m pictures of each of p captions."""
    return values.double().var(dim=1).numpy()


def spread_ratio(
    drawn: Float[np.ndarray, " p"],
    real: Float[np.ndarray, " p"],
    *,
    clusters: Clusters = None,
    bootstrap_samples: int,
    seed: int,
) -> Estimate:
    """Root of the ratio of two mean squares over the same captions; 1 is as varied as real pictures."""
    sums, _ = cluster_sums(np.stack([drawn, real]), clusters)
    count = sums.shape[1]
    rng = np.random.default_rng(seed)
    squares = rng.multinomial(count, np.full(count, 1 / count), size=bootstrap_samples) @ sums.T
    value, draws = _ratio(sums.sum(axis=1)[None]).item(), _ratio(squares)
    draws = value + small_sample_widening(count) * (draws - value)
    found = None if clusters is None else count
    return summarise(value, draws=np.maximum(draws, 0), n=len(drawn), clusters=found)


def _ratio(squares: Float[np.ndarray, "s 2"]) -> Float[np.ndarray, " s"]:
    return np.sqrt(np.maximum(squares[:, 0], 0) / np.maximum(squares[:, 1], 1e-12))


def ks_distance(
    drawn: Float[np.ndarray, " n"], real: Float[np.ndarray, " n"], *, bootstrap_samples: int, seed: int
) -> Estimate:
    """Largest difference between the distribution functions of two samples, in [0, 1].

    Two samples of n from one distribution lie about 1/sqrt(n) apart. The interval resamples both.
    """
    values = np.concatenate([drawn, real])
    order = values.argsort(kind="stable")
    steps = np.where(order < len(drawn), 1 / len(drawn), -1 / len(real))
    ends = np.append(np.diff(values[order]) > 0, True)  # ties count at their last
    rng = np.random.default_rng(seed)
    samples = min(bootstrap_samples, KS_SAMPLES)
    counts = np.concatenate(
        [rng.multinomial(n, np.full(n, 1 / n), size=samples) for n in (len(drawn), len(real))], axis=1
    )
    draws = np.abs((steps * counts[:, order]).cumsum(axis=1)[:, ends]).max(axis=1)
    found = summarise(float(np.abs(steps.cumsum()[ends]).max()), draws=draws, n=len(drawn))
    return replace(found, low=min(found.low, found.value))  # resamples lie farther apart than the samples
