"""What the frozen text tower says of a caption, its cache on disk, and a training batch with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from salon.errors import SalonError
from salon.files import read_json, write_json
from salon.weights import load_tensors, save_tensors

T = TypeVar("T")


@dataclass(frozen=True)
class TextStates:
    """A batch of encoded captions."""

    tokens: Float[Tensor, "b n d"]
    """Last hidden states of the text tower."""
    mask: Bool[Tensor, "b n"]
    """True where a token is real, False where it pads."""
    pooled: Float[Tensor, "b e"]
    """Projected embedding in the shared image-text space, of unit length."""
    concept: Float[Tensor, "b w"]
    """Mean of the words' embeddings, turned to what pictures show (`salon.towers.cca`)."""

    def __len__(self) -> int:
        return self.tokens.shape[0]

    def __getitem__(self, index: slice | Tensor) -> "TextStates":
        return TextStates(*(value[index] for value in vars(self).values()))

    def to(self, device: torch.device | str) -> "TextStates":
        return TextStates(*(value.to(device) for value in vars(self).values()))

    def concat(self, other: "TextStates") -> "TextStates":
        """Both batches, one after the other. Both must be padded to the same number of tokens."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return TextStates(*(torch.cat(pair) for pair in pairs))


@dataclass(frozen=True)
class Batch:
    """Some rows of a method's training set."""

    images: Float[Tensor, "b 3 h w"]
    text: TextStates
    precomputed: Tensor | None = None
    """What `Method.precompute` gave for these images."""


def with_new_names(saved: Mapping[str, T]) -> dict[str, T]:
    """What the release before saved, under the names of today."""
    return {{"words": "concept", "words_width": "concept_width"}.get(key, key): saved[key] for key in saved}


class TextStateCache:
    """The states of every distinct caption, encoded once: `states.safetensors` and `captions.json`."""

    def __init__(self, captions: Sequence[str], states: TextStates) -> None:
        self.captions = list(captions)
        self.states = states
        self._index = {caption: i for i, caption in enumerate(self.captions)}

    def indices(self, captions: Sequence[str]) -> Tensor:
        """Rows of `states` that hold `captions`.

        Raises:
            SalonError: a caption was never encoded.
        """
        try:
            return torch.tensor([self._index[caption] for caption in captions], dtype=torch.long)
        except KeyError as error:
            raise SalonError(
                f"caption {error.args[0]!r} is not in the cached text states: run the train_clip stage again"
            ) from None

    def save(self, folder: Path) -> None:
        save_tensors(folder / "states.safetensors", vars(self.states))
        write_json(folder / "captions.json", self.captions)

    @classmethod
    def load(cls, folder: Path) -> "TextStateCache":
        """Read the cache.

        Raises:
            SalonError: there is none.
        """
        if not (folder / "states.safetensors").is_file():
            raise SalonError(f"{folder} holds no text states: run the train_clip stage first")
        tensors = with_new_names(load_tensors(folder / "states.safetensors"))
        return cls(read_json(folder / "captions.json"), TextStates(**tensors))
