"""A caption as the sum of its words: what an unseen combination shares with the seen ones it is made of.

A contrastive embedding packs captions into the few dimensions that tell its pictures apart (here twenty
concepts into about five), and for a combination that it never saw it may point at another concept. The mean
of the words' own embeddings is additive (Arora 2017, "A simple but tough-to-beat baseline for sentence
embeddings"), and whitening gives rare distinctions the weight of frequent ones (Su 2021, "Whitening sentence
representations"). It knows no word order; what needs that reads `TextStates.tokens`.
"""

from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

FLOOR = 0.1  # share of the largest standard deviation that is added to each: noise is not blown up
NEGLIGIBLE = 0.01  # share of it below which a direction is dropped


class WordMeans:
    """Whitened mean of word embeddings, fitted to the training captions."""

    def __init__(
        self, *, table: Float[Tensor, "v d"], mean: Float[Tensor, "d"], whitening: Float[Tensor, "d w"],
        longest: float,
    ) -> None:  # fmt: skip
        """`table` embeds each token; `longest` is the length of the longest training caption's vector."""
        self.table, self.mean, self.whitening, self.longest = table, mean, whitening, longest

    @classmethod
    def fit(
        cls, table: Float[Tensor, "v d"], input_ids: Int[Tensor, "b n"], attention_mask: Int[Tensor, "b n"]
    ) -> "WordMeans":
        """Mean and principal directions of the training captions (each as often as it occurs in training)."""
        table = table.detach().clone().cpu()
        means = _mean_words(table, input_ids, attention_mask)
        mean = means.mean(dim=0)
        _, sizes, directions = torch.linalg.svd(means - mean, full_matrices=False)
        deviations = sizes / len(means) ** 0.5
        kept = deviations > NEGLIGIBLE * deviations[0]
        whitening = directions[kept].T / (deviations[kept] + FLOOR * deviations[0])
        longest = ((means - mean) @ whitening).norm(dim=1).max().item()
        return cls(table=table, mean=mean, whitening=whitening, longest=longest)

    def __call__(
        self, input_ids: Int[Tensor, "b n"], attention_mask: Int[Tensor, "b n"]
    ) -> Float[Tensor, "b w"]:
        """Elements of about unit variance; a stranger caption is no longer than the longest seen."""
        words = (_mean_words(self.table, input_ids, attention_mask) - self.mean) @ self.whitening
        length = words.norm(dim=1, keepdim=True).clamp(min=1e-6)
        return words * (self.longest / length).clamp(max=1)

    def to(self, device: torch.device | str) -> "WordMeans":
        return WordMeans(
            table=self.table.to(device),
            mean=self.mean.to(device),
            whitening=self.whitening.to(device),
            longest=self.longest,
        )

    def save(self, path: Path) -> None:
        """Write mean, whitening and length; the table is the text tower's own."""
        tensors = {"mean": self.mean, "whitening": self.whitening, "longest": torch.tensor(self.longest)}
        save_file({name: value.contiguous().cpu() for name, value in tensors.items()}, path)

    @classmethod
    def load(cls, path: Path, *, table: Float[Tensor, "v d"]) -> "WordMeans":
        """Read what `save` wrote."""
        tensors = load_file(path)
        return cls(
            table=table.detach(),
            mean=tensors["mean"],
            whitening=tensors["whitening"],
            longest=tensors["longest"].item(),
        )


def _mean_words(table: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Float[Tensor, "b d"]:
    mask = attention_mask.to(table.dtype)
    return (table[input_ids] * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
