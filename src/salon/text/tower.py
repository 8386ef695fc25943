"""The contrastive towers (CLIP, Radford 2021) as one frozen object: captions and pictures to vectors.

The folder is what `CLIPModel.from_pretrained` and `AutoTokenizer.from_pretrained` of plain transformers load.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, PreTrainedTokenizerFast

from salon.errors import SalonError
from salon.params import ClipParams
from salon.text.states import TextStates
from salon.text.tokenizer import unknown_words


class ClipTower:
    """Frozen text and image towers with their tokenizer."""

    def __init__(
        self, model: CLIPModel, tokenizer: PreTrainedTokenizerFast, known: frozenset[str] = frozenset()
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.known_words = known

    @property
    def text_width(self) -> int:
        return self.model.config.text_config.hidden_size

    @property
    def projection_dim(self) -> int:
        return self.model.config.projection_dim

    @property
    def max_tokens(self) -> int:
        return self.model.config.text_config.max_position_embeddings

    @torch.inference_mode()
    def encode_text(self, captions: Sequence[str], *, batch_size: int = 512) -> TextStates:
        """Encode captions, padded to the longest of them."""
        batch = tokenize(self.tokenizer, captions, max_tokens=self.max_tokens)
        device = next(self.model.parameters()).device
        tokens, pooled = [], []
        for ids, mask in zip(
            batch["input_ids"].split(batch_size), batch["attention_mask"].split(batch_size), strict=True
        ):
            hidden, embedding = text_forward(self.model, ids.to(device), mask.to(device))
            tokens.append(hidden)
            pooled.append(embedding)
        return TextStates(torch.cat(tokens), batch["attention_mask"].bool().to(device), torch.cat(pooled))

    @torch.inference_mode()
    def encode_images(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b e"]:
        """Unit vectors of pictures in [-1, 1] in the space of `TextStates.pooled`."""
        return image_forward(self.model, images)

    def unknown_words(self, caption: str) -> list[str]:
        """Words that training never showed."""
        return unknown_words(caption, self.known_words)

    def is_truncated(self, caption: str) -> bool:
        """Whether the caption has more tokens than the tower reads."""
        return len(self.tokenizer(caption)["input_ids"]) > self.max_tokens

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        (folder / "known_words.json").write_text(
            json.dumps(sorted(self.known_words), ensure_ascii=False), encoding="utf-8"
        )

    @classmethod
    def load(cls, folder: Path) -> "ClipTower":
        """Read the towers.

        Raises:
            SalonError: the folder holds none.
        """
        if not (folder / "model.safetensors").is_file():
            raise SalonError(f"{folder} holds no contrastive towers: run the train_clip stage first")
        return cls(
            CLIPModel.from_pretrained(folder),
            AutoTokenizer.from_pretrained(folder),
            frozenset(json.loads((folder / "known_words.json").read_text(encoding="utf-8"))),
        )


def build_model(params: ClipParams, tokenizer: PreTrainedTokenizerFast, *, image_size: int) -> CLIPModel:
    """Untrained towers of the sizes in `params`."""
    tower = {
        "hidden_size": params.width,
        "intermediate_size": params.width * 4,
        "num_attention_heads": max(1, params.width // 32),
    }
    config = CLIPConfig(
        text_config={
            **tower,
            "vocab_size": len(tokenizer),
            "num_hidden_layers": params.text_layers,
            "max_position_embeddings": params.max_tokens,
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            **tower,
            "num_hidden_layers": params.image_layers,
            "image_size": image_size,
            "patch_size": params.patch_size,
        },
        projection_dim=params.projection_dim,
    )
    return CLIPModel(config)


def tokenize(
    tokenizer: PreTrainedTokenizerFast, captions: Sequence[str], *, max_tokens: int
) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask`, (b, n), padded to the longest caption and cut at `max_tokens`."""
    batch = tokenizer(
        list(captions), padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
    )
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


def text_forward(
    model: CLIPModel, input_ids: Tensor, attention_mask: Tensor
) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b e"]]:
    """Token states and unit embeddings, with gradients."""
    output = model.text_model(input_ids=input_ids, attention_mask=attention_mask)
    return output.last_hidden_state, F.normalize(model.text_projection(output.pooler_output), dim=-1)


def image_forward(model: CLIPModel, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b e"]:
    """Unit embeddings of pictures in [-1, 1], with gradients."""
    output = model.vision_model(pixel_values=images)
    return F.normalize(model.visual_projection(output.pooler_output), dim=-1)
