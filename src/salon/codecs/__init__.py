"""Codecs by name. A family is one module of this package; adding one is adding a file."""

from pathlib import Path

from salon.codecs.base import Codec, CodecConfig, CodecTask, DiscreteCodec
from salon.codecs.pixels import PixelCodec
from salon.families import Families
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
# all other modules are codecs that are trained
CODECS = Families(__name__, DiscreteCodec, what="codec", apart=("base", "pixels", "token_file"))  # type: ignore[type-abstract]
read_codec_config = CODECS.read_config


def load_codec(folder: Path) -> Codec:
    """The frozen codec in `folder`; `pixels` has a config and no weights.

    Raises:
        SalonError: the folder holds no codec.
    """
    stage = f"`python -m salon codec {folder.name}`"
    description = read_network_config(folder, what="codec", stage=stage)
    if description["family"] == BUILTIN:
        return PixelCodec().eval().requires_grad_(False)
    family = CODECS.find(description["family"])
    config = parse_section(family.config_class, description["config"], where=str(folder / CONFIG))
    return load_weights(adopt(family(config)), folder)
