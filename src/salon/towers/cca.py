"""A caption as the sum of its words: what an unseen combination shares with the seen ones it is made of.

A contrastive embedding packs captions into the few dimensions that tell its pictures apart (here twenty
concepts into about five), and for a combination that it never saw it may point at another concept. The mean
of the words' own embeddings is additive (Arora 2017, "A simple but tough-to-beat baseline for sentence
embeddings"), but most of its variance is language and phrasing. Canonical correlation with the embeddings of
the captions' pictures (Hotelling 1936) finds the directions that a picture shows: in the default world just
as many as its attributes have degrees of freedom, 19 + 3 + 5, and a gap below them. The other side of the
same correlation reads these directions off a picture's embedding.

It knows no word order; what needs that reads `TextStates.tokens`.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from salon.weights import load_tensors, save_tensors

RIDGE = 1e-5  # share of the largest variance that is added to each: no direction without variance is inverted
FEWEST = 8  # directions that are kept at least
STRETCH = 1.5  # a caption's vector may be so much longer than the longest of the training captions


@dataclass(frozen=True)
class CanonicalProjection:
    """Mean of the word embeddings, turned to the directions that pictures show."""

    table: Float[Tensor, "v d"]
    """Embedding of each token."""
    mean: Float[Tensor, "d"]
    directions: Float[Tensor, "d w"]
    longest: float
    """No caption's vector is made longer."""
    image_mean: Float[Tensor, "e"]
    image_directions: Float[Tensor, "e w"]
    """They turn a picture's embedding to the same directions."""

    @classmethod
    def fit(
        cls,
        table: Float[Tensor, "v d"],
        input_ids: Int[Tensor, "b n"],
        attention_mask: Int[Tensor, "b n"],
        *,
        images: Float[Tensor, "b e"],
    ) -> "CanonicalProjection":
        """Canonical directions of the training captions, given the embeddings of their pictures."""
        table = table.detach().clone().cpu()
        means = _mean_words(table, input_ids, attention_mask)
        mean = means.mean(dim=0)
        image_mean = images.mean(dim=0)
        directions, image_directions = canonical_directions(means - mean, images - image_mean)
        longest = STRETCH * ((means - mean) @ directions).norm(dim=1).max().item()
        return cls(table, mean, directions, longest, image_mean, image_directions)

    def __call__(
        self, input_ids: Int[Tensor, "b n"], attention_mask: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b w"]:
        """Elements of at most about unit variance; a stranger caption is held to `longest`."""
        words = (_mean_words(self.table, input_ids, attention_mask) - self.mean) @ self.directions
        length = words.norm(dim=1, keepdim=True).clamp(min=1e-6)
        return words * (self.longest / length).clamp(max=1)

    def of_pictures(self) -> nn.Linear:
        """The map from a picture's embedding to what it shows of the words, of unit variance."""
        width, directions = self.image_directions.shape
        linear = nn.Linear(width, directions)
        linear.weight.data = self.image_directions.T.contiguous()
        linear.bias.data = -self.image_mean @ self.image_directions
        return linear.requires_grad_(False)

    def to(self, device: torch.device | str) -> "CanonicalProjection":
        tensors = {name: value.to(device) for name, value in vars(self).items() if name != "longest"}
        return replace(self, **tensors)

    def save(self, path: Path) -> None:
        """Write means, directions and length; the table is the text tower's own."""
        kept = {name: torch.as_tensor(value) for name, value in vars(self).items() if name != "table"}
        save_tensors(path, kept)

    @classmethod
    def load(cls, path: Path, *, table: Float[Tensor, "v d"]) -> "CanonicalProjection":
        """Read what `save` wrote."""
        tensors = load_tensors(path)
        longest = tensors.pop("longest").item()
        return cls(table=table.detach(), longest=longest, **tensors)


def canonical_directions(
    x: Float[Tensor, "n d"], y: Float[Tensor, "n e"]
) -> tuple[Float[Tensor, "d w"], Float[Tensor, "e w"]]:
    """Directions of `x` that `y` explains, and their counterparts in `y`.

    Those of `y` are scaled to unit variance and those of `x` to unit variance times the canonical correlation
    rho, so that `x` along its directions is the best linear guess of `y` along its own. Those are kept whose
    rho exceeds what unrelated data of these sizes reach, sqrt(d/n) + sqrt(e/n) (the edge of Wachter 1980 for
    n far above d and e). Both must have mean zero.
    """
    n, x, y = len(x), x.double(), y.double()
    whiten_x, whiten_y = _inverse_root(x.T @ x / n), _inverse_root(y.T @ y / n)
    left, rho, right = torch.linalg.svd(whiten_x @ (x.T @ y / n) @ whiten_y)
    edge = (x.shape[1] / n) ** 0.5 + (y.shape[1] / n) ** 0.5
    kept = min(max(FEWEST, int((rho > edge).sum())), len(rho))
    return (whiten_x @ left[:, :kept] * rho[:kept]).float(), (whiten_y @ right[:kept].T).float()


def _inverse_root(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * (values.clamp(min=0) + RIDGE * values[-1]).rsqrt() @ vectors.T


def _mean_words(table: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Float[Tensor, "b d"]:
    mask = attention_mask.to(table.dtype)
    return (table[input_ids] * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
