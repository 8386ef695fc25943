"""The contrastive towers (CLIP, Radford 2021) as one frozen object: captions and pictures to vectors.

Two folders that plain transformers loads: `text/` (`CLIPTextModelWithProjection` with its tokenizer) and
`image/` (`ResNetForImageClassification` whose logits are the embedding). A convolutional image tower knows
the attributes of 32-pixel pictures after a minute; a ViT of the same cost needs several.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
)

from salon.errors import SalonError
from salon.files import read_json, write_json
from salon.images import to_float
from salon.nn.products import adopt
from salon.params import ClipParams
from salon.towers.cca import CanonicalProjection
from salon.towers.states import TextStates
from salon.towers.tokenizer import known_words, unknown_words

TOWERS = "towers.json"
CONCEPT = "words.safetensors"
INITIAL_LOGIT_SCALE = 1 / 0.07  # Radford 2021, sec. 2.4
MAX_LOGIT_SCALE = 100.0  # Radford 2021, sec. 2.5


class TwoTowers(nn.Module):
    """Text and image encoder into one space, and the temperature of their contrast."""

    def __init__(self, text: CLIPTextModelWithProjection, image: ResNetForImageClassification) -> None:
        super().__init__()
        self.text, self.image = adopt(text), adopt(image)
        self.log_scale = nn.Parameter(torch.tensor(INITIAL_LOGIT_SCALE).log())
        self.to_concept: nn.Module = nn.Identity()  # fitted once the towers are trained

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        return self.log_scale.exp().clamp(max=MAX_LOGIT_SCALE)

    @property
    def word_embeddings(self) -> Float[Tensor, "v d"]:
        """The text tower's embedding of each token."""
        return self.text.text_model.embeddings.token_embedding.weight

    def encode_text(
        self, input_ids: Int[Tensor, "b n"], attention_mask: Int[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b e"]]:
        """Token states, and embeddings of unit length."""
        output = self.text(input_ids=input_ids, attention_mask=attention_mask)
        return output.last_hidden_state, F.normalize(output.text_embeds, dim=-1)

    def encode_images(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b e"]:
        """Embeddings of unit length of pictures in [-1, 1]."""
        return F.normalize(self.image(pixel_values=images).logits, dim=-1)

    @torch.inference_mode()
    def embed(self, images: UInt8[Tensor, "n 3 h w"], *, batch_size: int = 512) -> Float[Tensor, "n e"]:
        """`encode_images` of uint8 images, batch by batch, on the CPU."""
        device = self.log_scale.device
        parts = images.split(batch_size)
        return torch.cat([self.encode_images(to_float(part.to(device))).cpu() for part in parts])

    def encode_concept(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b w"]:
        """What pictures show of the words of a caption: where `TextStates.concept` is expected to be."""
        return self.to_concept(self.encode_images(images))


class ClipTower:
    """Frozen towers with their tokenizer."""

    def __init__(
        self,
        towers: TwoTowers,
        tokenizer: PreTrainedTokenizerFast,
        *,
        concept: CanonicalProjection,
        known_words: frozenset[str],
    ) -> None:
        towers.to_concept = concept.of_pictures().to(towers.log_scale.device)
        self.towers = towers.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.concept = concept
        self.known_words = known_words

    @classmethod
    def after_training(
        cls,
        towers: TwoTowers,
        tokenizer: PreTrainedTokenizerFast,
        captions: Sequence[str],
        *,
        embeddings: Float[Tensor, "n e"],
    ) -> "ClipTower":
        """The tower of trained networks, with what it keeps of the training captions.

        `embeddings` are of the first captions' pictures, by the image tower; a few thousand will do.
        """
        paired = captions[: len(embeddings)]
        batch = tokenize(tokenizer, paired, max_tokens=towers.text.config.max_position_embeddings)
        concept = CanonicalProjection.fit(
            towers.word_embeddings, batch["input_ids"], batch["attention_mask"], images=embeddings
        )
        return cls(towers, tokenizer, concept=concept, known_words=frozenset(known_words(captions)))

    @property
    def max_tokens(self) -> int:
        return self.towers.text.config.max_position_embeddings

    @property
    def device(self) -> torch.device:
        return self.towers.log_scale.device

    def to(self, device: torch.device | str) -> "ClipTower":
        self.towers.to(device)
        self.concept = self.concept.to(device)
        return self

    @torch.inference_mode()
    def encode_text(self, captions: Sequence[str], *, batch_size: int = 512) -> TextStates:
        """Encode captions, padded to the longest of them."""
        batch = tokenize(self.tokenizer, captions, max_tokens=self.max_tokens)
        ids, mask = batch["input_ids"].to(self.device), batch["attention_mask"].to(self.device)
        parts = [
            (*self.towers.encode_text(*part), self.concept(*part))
            for part in zip(ids.split(batch_size), mask.split(batch_size), strict=True)
        ]
        tokens, pooled, concept = (torch.cat(each) for each in zip(*parts, strict=True))
        return TextStates(tokens, mask.bool(), pooled, concept)

    @torch.inference_mode()
    def encode_images(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b e"]:
        """Unit vectors of pictures in [-1, 1] in the space of `TextStates.pooled`."""
        return self.towers.encode_images(images.to(self.device))

    def unknown_words(self, caption: str) -> list[str]:
        """Words that training never showed."""
        return unknown_words(caption, self.known_words)

    def is_truncated(self, caption: str) -> bool:
        """Whether the caption has more tokens than the tower reads."""
        return len(self.tokenizer(caption)["input_ids"]) > self.max_tokens

    def save(self, folder: Path) -> None:
        """Write `text/`, `image/`, `words.safetensors` and `towers.json`."""
        self.towers.text.save_pretrained(folder / "text")
        self.tokenizer.save_pretrained(folder / "text")
        self.towers.image.save_pretrained(folder / "image")
        self.concept.save(folder / CONCEPT)
        scale, known = float(self.towers.logit_scale), sorted(self.known_words)
        write_json(folder / TOWERS, {"logit_scale": scale, "known_words": known})

    @classmethod
    def load(cls, folder: Path) -> "ClipTower":
        """Read the towers.

        Raises:
            SalonError: the folder holds none.
        """
        if not all((folder / file).is_file() for file in (TOWERS, CONCEPT)):
            raise SalonError(f"{folder} holds no contrastive towers: run the train_clip stage first")
        description = read_json(folder / TOWERS)
        towers = TwoTowers(
            CLIPTextModelWithProjection.from_pretrained(folder / "text"),
            ResNetForImageClassification.from_pretrained(folder / "image"),
        )
        towers.log_scale.data.fill_(math.log(description["logit_scale"]))
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "text")
        concept = CanonicalProjection.load(folder / CONCEPT, table=towers.word_embeddings)
        return cls(towers, tokenizer, concept=concept, known_words=frozenset(description["known_words"]))


def build_towers(params: ClipParams, tokenizer: PreTrainedTokenizerFast) -> TwoTowers:
    """Untrained towers of the sizes in `params`."""
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=params.text_width,
        intermediate_size=params.text_width * 4,
        num_attention_heads=max(1, params.text_width // 32),
        num_hidden_layers=params.text_layers,
        max_position_embeddings=params.max_tokens,
        projection_dim=params.projection_dim,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    image = ResNetConfig(
        embedding_size=params.image_channels[0],
        hidden_sizes=params.image_channels,
        depths=[params.image_blocks] * len(params.image_channels),
        layer_type="basic",
        num_labels=params.projection_dim,  # type: ignore[call-arg]
    )
    return TwoTowers(CLIPTextModelWithProjection(text), ResNetForImageClassification(image))


def tokenize(
    tokenizer: PreTrainedTokenizerFast, captions: Sequence[str], *, max_tokens: int
) -> dict[str, Tensor]:
    """`input_ids` and `attention_mask`, (b, n), padded to the longest caption and cut at `max_tokens`."""
    batch = tokenizer(
        list(captions), padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
    )
    return {name: batch[name] for name in ("input_ids", "attention_mask")}
