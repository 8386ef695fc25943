"""Codecs by name. A family is one module of this package; adding one is adding a file."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from salon.codecs.base import Codec, CodecConfig, CodecTask, DiscreteCodec
from salon.codecs.pixels import PixelCodec
from salon.families import find_family
from salon.nn.products import adopt
from salon.params import parse_section
from salon.weights import CONFIG, load_weights, read_network_config

__all__ = [
    "Codec",
    "CodecConfig",
    "CodecTask",
    "DiscreteCodec",
    "PixelCodec",
    "load_codec",
    "read_codec_config",
]

BUILTIN = "pixels"
NO_FAMILIES = ("base", "pixels", "token_file")  # all other modules are codecs that are trained


def load_codec(folder: Path) -> Codec:
    """The frozen codec in `folder`; `pixels` has a config and no weights.

    Raises:
        SalonError: the folder holds no codec.
    """
    stage = f"`python -m salon codec {folder.name}`"
    description = read_network_config(folder, what="codec", stage=stage)
    if description["family"] == BUILTIN:
        return PixelCodec().eval().requires_grad_(False)
    family = find_codec(description["family"])
    config = parse_section(family.config_class, description["config"], where=str(folder / CONFIG))
    return load_weights(adopt(family(config)), folder)


def find_codec(family: str) -> type[DiscreteCodec]:
    """The one `DiscreteCodec` class of module `salon.codecs.<family>`.

    Raises:
        SalonError: there is no such module.
    """
    return find_family(
        sys.modules[__name__],
        family,
        DiscreteCodec,  # type: ignore[type-abstract]
        what="codec",
        apart=NO_FAMILIES,
    )


def read_codec_config(name: str, raw: Mapping[str, Any]) -> tuple[type[DiscreteCodec], CodecConfig]:
    """The class and the checked settings of codec `name` of `params.yaml`.

    Raises:
        SalonError: unknown family, unknown key, or a value out of range.
    """
    family = find_codec(raw.get("family") or name)
    return family, parse_section(family.config_class, dict(raw), where=f"params.yaml: codecs.{name}")
