"""Frozen networks for tests of methods: small, and fitted to the test's own pictures in seconds."""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    ResNetConfig,
    ResNetForImageClassification,
)

from quick_training import learn_quickly
from salon.codecs import Codec, read_codec_config
from salon.codecs.pixels import PixelCodec
from salon.data.batches import ImageBatches
from salon.images import to_uint8
from salon.methods.base import FrozenNets
from salon.towers.states import TextStates
from salon.towers.tower import TwoTowers
from salon.training.codec import Codebook

TOWER_STEPS = 60
CODEC_STEPS = 200


def build_towers(width: int) -> TwoTowers:
    """Untrained towers into a shared space of `width` dimensions."""
    text = CLIPTextConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_attention_heads=1, num_hidden_layers=1,
        max_position_embeddings=8, projection_dim=width,
    )  # fmt: skip
    image = ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=width
    )
    return TwoTowers(CLIPTextModelWithProjection(text), ResNetForImageClassification(image)).eval()


def fit_towers(pictures: torch.Tensor, captions: TextStates) -> TwoTowers:
    """Towers whose image side gives the pictures (n, 3, h, w) the embeddings and words of their captions."""
    torch.manual_seed(0)
    embeddings = captions.pooled
    towers = build_towers(embeddings.shape[1])
    optimizer = torch.optim.Adam(towers.image.parameters(), lr=3e-3)
    for _ in range(TOWER_STEPS):
        similarity = (towers.encode_images(pictures) * embeddings).sum(dim=1)
        optimizer.zero_grad()
        (1 - similarity).mean().backward()
        optimizer.step()
    with torch.no_grad():
        shown = towers.encode_images(pictures)
        assert F.cosine_similarity(shown, embeddings).min() > 0.9
        towers.to_concept = nn.Linear(*(side.shape[1] for side in (shown, captions.concept)), bias=False)
        towers.to_concept.weight.data = torch.linalg.lstsq(shown, captions.concept).solution.T.contiguous()
    return towers.requires_grad_(False)


def fit_codec(name: str, pictures: torch.Tensor) -> Codec:
    """The codec called `name` with its default settings, trained on these pictures in [-1, 1] alone."""
    if name == "pixels":
        return PixelCodec().eval()
    torch.manual_seed(0)
    family, config = read_codec_config(name, {"max_steps": CODEC_STEPS})
    codec = family(config)
    if config.start != "pixels":
        codec.start_from(fit_codec(config.start, pictures))
    task = codec.task()
    source = ImageBatches(to_uint8(pictures), batch_size=config.batch_size, seed=0)
    learn_quickly(
        task, source, steps=config.max_steps, lr=config.lr, callbacks=[Codebook(source, None, seed=0)]
    )
    codec.eval().requires_grad_(False)
    assert (codec.decode(codec.encode(pictures)) - pictures).square().mean() < 0.02
    return codec


def pixel_frozen(width: int) -> FrozenNets:
    """The identity codec and untrained towers."""
    torch.manual_seed(0)
    return FrozenNets(PixelCodec().eval(), build_towers(width).requires_grad_(False))
