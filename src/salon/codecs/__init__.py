"""Codecs by name."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from salon.codecs.base import CONFIG, WEIGHTS, Codec, CodecConfig, CodecTask, DiscreteCodec
from salon.codecs.pixels import PixelCodec
from salon.codecs.vqgan import VqGan
from salon.codecs.vqvae import VqVae
from salon.errors import SalonError
from salon.params import parse_section

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
    if not (folder / CONFIG).is_file():
        raise SalonError(f"{folder} holds no codec: run `python -m salon codec {folder.name}` first")
    description = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if description["family"] == BUILTIN:
        return PixelCodec().eval().requires_grad_(False)
    family = find_family(description["family"])
    codec = family(parse_section(family.config_class, description["config"], where=str(folder / CONFIG)))
    codec.load_state_dict(load_file(folder / WEIGHTS))
    return codec.eval().requires_grad_(False)


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
