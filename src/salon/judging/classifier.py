"""The independent scorer: which concept, which style, which background does a picture show?

A plain convolutional classifier with one head per attribute, trained on real pictures with its own seed. It
shares neither architecture nor weights nor seed with the towers that methods see, and nothing that
a method optimises depends on it. Unlike the methods it knows the novel combinations: half of the `novel`
pictures train it, the other half tests it. A judge must know what it judges.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from salon.data.dataset import CaptionedImages
from salon.images import to_float
from salon.nn.trainable import Losses, Trainable
from salon.weights import load_weights, read_network_config, save_network

MAX_NOISE = 0.15  # std of the noise that training adds, so that small flaws of a generator do not confuse it
MAX_BLUR = 0.6  # largest share of a 3x3 mean mixed in, likewise


class LabelledImages(NamedTuple):
    """A batch of images with the classes of their attributes."""

    images: Float[Tensor, "b 3 h w"]
    targets: dict[str, Int[Tensor, "b"]]


class Judge(Trainable):
    """A network that judges, on disk beside the arguments that it was made with."""

    what: ClassVar[str]
    config: dict[str, Any]

    def save_pretrained(self, folder: Path) -> None:
        """Write `model.safetensors` and `config.json`."""
        save_network(folder, self, self.config)

    @classmethod
    def from_pretrained(cls, folder: Path) -> Self:
        """Read what `save_pretrained` wrote.

        Raises:
            SalonError: the folder holds no such judge.
        """
        config = read_network_config(folder, what=cls.what, stage="the scorer stage")
        return load_weights(cls(**config), folder)


def conv_trunk(width: int) -> tuple[nn.Sequential, int]:
    """Strided convolutions with batch norm: (b, 3, h, w) -> (b, c, h/8, w/8), and c."""
    layers: list[nn.Module] = []
    for before, after in pairwise((3, width, 2 * width, 4 * width)):
        for width_in, kernel, stride in ((before, 4, 2), (after, 3, 1)):
            conv = nn.Conv2d(width_in, after, kernel, stride=stride, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(after), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers), 4 * width


class AttributeScorer(Judge):
    """Strided convolutions with batch norm, average pooling, and one linear head per attribute."""

    what = "scorer"

    def __init__(self, labels: Mapping[str, Sequence[str]], *, width: int, cells: int = 1) -> None:
        """`labels` lists the values of each attribute; features are averaged in `cells` x `cells` parts."""
        super().__init__()
        self.cells = cells
        self.labels = {name: list(values) for name, values in labels.items()}
        self.config = {"labels": self.labels, "width": width, "cells": cells}
        self.trunk, channels = conv_trunk(width)
        # a list, since an attribute may have any name, that of a module's own attribute too
        size = channels * cells**2
        self.heads = nn.ModuleList(nn.Linear(size, len(values)) for values in self.labels.values())

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> dict[str, Float[Tensor, "b k"]]:
        """Logits per attribute of pictures in [-1, 1]."""
        h = self.trunk(images)  # (b, 4*width, h/8, w/8)
        features = h.mean(dim=(2, 3)) if self.cells == 1 else F.adaptive_avg_pool2d(h, self.cells).flatten(1)
        return {name: head(features) for name, head in zip(self.labels, self.heads, strict=True)}

    def targets(self, attributes: Sequence[Mapping[str, str]]) -> dict[str, Int[Tensor, "b"]]:
        """Class numbers of the true attributes."""
        return {
            name: torch.tensor([values.index(row[name]) for row in attributes])
            for name, values in self.labels.items()
        }

    def losses(self, batch: LabelledImages, *, objective: str, generator: torch.Generator) -> Losses:
        """Sum of the cross-entropies of all attributes, of degraded images."""
        logits = self(degrade(batch.images, generator))
        pairs = [(logits[name], batch.targets[name]) for name in self.labels]
        return Losses(torch.stack([F.cross_entropy(*pair, label_smoothing=0.05) for pair in pairs]).sum())

    @torch.inference_mode()
    def judge(self, images: UInt8[Tensor, "b 3 h w"], *, batch_size: int = 256) -> list[dict[str, str]]:
        """The attributes that each picture shows. Pictures are uint8, as a user would see them."""
        device = next(self.parameters()).device
        verdicts: list[dict[str, str]] = []
        for part in images.split(batch_size):
            logits = self(to_float(part).to(device))
            classes = {name: logits[name].argmax(dim=1).tolist() for name in self.labels}
            columns = [[self.labels[name][i] for i in chosen] for name, chosen in classes.items()]
            verdicts += [dict(zip(self.labels, row, strict=True)) for row in zip(*columns, strict=True)]
        return verdicts


def degrade(images: Float[Tensor, "b 3 h w"], generator: torch.Generator) -> Float[Tensor, "b 3 h w"]:
    """Blur and noise of random strength, the flaws of generated pictures that change no attribute."""
    b, device = images.shape[0], generator.device
    blur = torch.rand(b, 1, 1, 1, generator=generator, device=device) * MAX_BLUR
    noise = torch.rand(b, 1, 1, 1, generator=generator, device=device) * MAX_NOISE
    smooth = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    return images.lerp(smooth, blur) + noise * torch.randn(images.shape, generator=generator, device=device)


def is_for_training(row_id: str) -> bool:
    """Whether a `novel` picture trains the scorer (else it tests it); fixed by the id's last digit."""
    return int(row_id[-1], 16) % 2 == 0


def select(data: CaptionedImages, keep: Sequence[bool]) -> CaptionedImages:
    """The rows of `data` marked in `keep`."""
    return data.take([i for i, kept in enumerate(keep) if kept])


def accuracy(verdicts: Sequence[Mapping[str, str]], truth: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """Share of pictures with each attribute right, and with `all` of them right."""
    names = list(verdicts[0])
    pairs = zip(verdicts, truth, strict=True)
    right = np.array([[verdict[name] == row[name] for name in names] for verdict, row in pairs])  # (n, names)
    shares = np.column_stack([right, right.all(axis=1)]).mean(axis=0)
    return dict(zip([*names, "all"], shares.tolist(), strict=True))
