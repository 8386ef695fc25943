"""A new codec is one file: it is found by its name, saved and loaded, and trained like the others."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import salon.codecs
from quick_training import learn_quickly
from salon.codecs import DiscreteCodec, load_codec, read_codec_config
from salon.codecs.base import need_codes
from salon.codecs.token_file import detokenize, tokenize
from salon.data.batches import ImageBatches
from salon.errors import SalonError
from salon.images import to_uint8
from salon.training.codec import Codebook

BRIGHTNESS = '''
"""Scalar quantisation: the brightness of each block of pixels as one of a few greys."""

import torch
from torch import nn
from torch.nn import functional as F

from salon.codecs.base import CodecConfig, CodecTask, DiscreteCodec
from salon.nn.trainable import Losses


class BrightnessConfig(CodecConfig):
    """Settings of the greys."""

    greys: int = 8
    """How many there are."""


class Brightness(DiscreteCodec):
    config_class = BrightnessConfig
    codebook_size = property(lambda self: self.config.greys)
    downsampling = property(lambda self: 4)
    codebook = property(lambda self: self.levels[:, None])

    def __init__(self, config):
        super().__init__(config)
        self.levels = nn.Parameter(torch.linspace(-0.5, 0.5, config.greys))

    def encode_grid(self, images):
        grey = F.avg_pool2d(images.mean(dim=1, keepdim=True), 4)[:, 0]
        return (grey[..., None] - self.levels).abs().argmin(dim=-1)

    def decode_grid(self, codes):
        return self.levels[codes][:, None].repeat(1, 3, 1, 1).repeat_interleave(4, 2).repeat_interleave(4, 3)

    def start_from(self, other):
        pass

    def task(self):
        return Fit(self)


class Fit(CodecTask):
    def __init__(self, codec):
        super().__init__()
        self.codec = codec

    def losses(self, batch, *, objective, generator):
        self.codes = self.codec.encode(batch)
        return Losses((self.codec.decode(self.codes) - batch).square().mean())
'''


@pytest.fixture
def brightness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DiscreteCodec]:
    """The codec of a package in which one more file lies, and nothing else was touched."""
    (tmp_path / "brightness.py").write_text(BRIGHTNESS, encoding="utf-8")
    monkeypatch.setattr(salon.codecs, "__path__", [*salon.codecs.__path__, str(tmp_path)])
    family, config = read_codec_config("brightness", {"greys": 5})
    yield family(config)
    sys.modules.pop("salon.codecs.brightness")


def test_one_file_makes_a_codec(brightness: DiscreteCodec, tmp_path: Path) -> None:
    images = torch.rand(16, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3).expand(-1, 3, -1, -1)
    before = (brightness.decode(brightness.encode(images)) - images).square().mean()
    source = ImageBatches(to_uint8(images), batch_size=8, seed=0)
    callbacks = [Codebook(source, None, seed=0)]
    learn_quickly(brightness.task(), source, steps=40, lr=0.02, callbacks=callbacks)
    after = (brightness.decode(brightness.encode(images)) - images).square().mean()
    assert after < before

    brightness.save_pretrained(tmp_path / "saved")
    loaded = load_codec(tmp_path / "saved")
    codes = loaded.encode(images)
    assert codes.shape == (16, *loaded.latent_shape(16))
    assert 0 <= int(codes.min()) <= int(codes.max()) < 5
    assert torch.equal(loaded.decode(codes), brightness.decode(brightness.encode(images)))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())

    codec = need_codes(loaded, "dalle")
    drawn = detokenize(codec, tokenize(codec, images[0, :, :14, :13], name="cut"))
    assert torch.equal(drawn[:, :12, :12], loaded.decode(codes)[0, :, :12, :12])


def test_an_unknown_key_of_its_settings_and_an_unknown_family_are_named(brightness: DiscreteCodec) -> None:
    with pytest.raises(SalonError, match="unknown key 'grays': did you mean 'greys'"):
        read_codec_config("brightness", {"grays": 8})
    with pytest.raises(
        SalonError, match=r"unknown codec family 'jpeg': one of \['brightness', 'vqgan', 'vqvae'\]"
    ):
        read_codec_config("jpeg", {})
