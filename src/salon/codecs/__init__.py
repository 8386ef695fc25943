"""Codecs by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from salon.codecs.base import Codec, CodecConfig, CodecTask, DiscreteCodec
from salon.codecs.pixels import PixelCodec
from salon.codecs.vqgan import VqGan
from salon.codecs.vqvae import VqVae
from salon.errors import SalonError
from salon.nn.products import adopt
from salon.params import parse_section
from salon.weights import CONFIG, load_weights, read_network_config

__all__ = [
    "Codec",
    "CodecConfig",
    "CodecTask",
    "DiscreteCodec",
    "PixelCodec",
    "VqGan",
    "VqVae",
    "load_codec",
    "read_codec_config",
]

BUILTIN = "pixels"
FAMILIES: dict[str, type[DiscreteCodec]] = {"vqgan": VqGan, "vqvae": VqVae}
"""Codecs that are trained."""


def load_codec(folder: Path) -> Codec:
    """The frozen codec in `folder`; `pixels` has a config and no weights.

    Raises:
        SalonError: the folder holds no codec.
    """
    stage = f"`python -m salon codec {folder.name}`"
    description = read_network_config(folder, what="codec", stage=stage)
    if description["family"] == BUILTIN:
        return PixelCodec().eval().requires_grad_(False)
    family = find_family(description["family"])
    config = parse_section(family.config_class, description["config"], where=str(folder / CONFIG))
    return load_weights(adopt(family(config)), folder)


def find_family(name: str) -> type[DiscreteCodec]:
    """The class of a family of trained codecs.

    Raises:
        SalonError: there is no such family.
    """
    if name not in FAMILIES:
        raise SalonError(f"unknown codec family {name!r}: one of {sorted(FAMILIES)}")
    return FAMILIES[name]


def read_codec_config(name: str, raw: Mapping[str, Any]) -> tuple[type[DiscreteCodec], CodecConfig]:
    """The class and the checked settings of codec `name` of `params.yaml`.

    Raises:
        SalonError: unknown family, unknown key, or a value out of range.
    """
    family = find_family(raw.get("family") or name)
    return family, parse_section(family.config_class, dict(raw), where=f"params.yaml: codecs.{name}")
