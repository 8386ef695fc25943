"""A network on disk: `model.safetensors` and `config.json` in one folder; nothing pickled."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from salon.errors import SalonError
from salon.files import read_json, whole_file, write_json

M = TypeVar("M", bound=nn.Module)

WEIGHTS = "model.safetensors"
CONFIG = "config.json"


def save_network(folder: Path, network: nn.Module, config: Mapping[str, Any]) -> None:
    """Write the weights of `network`, and `config`, which says how to build it."""
    save_tensors(folder / WEIGHTS, network.state_dict())
    write_json(folder / CONFIG, config, sort_keys=False)


def read_network_config(folder: Path, *, what: str, stage: str) -> Any:
    """The `config` that `save_network` was given.

    Raises:
        SalonError: there is none.
    """
    if not (folder / CONFIG).is_file():
        raise SalonError(f"{folder} holds no {what}: run {stage} first")
    return read_json(folder / CONFIG)


def load_weights(network: M, folder: Path) -> M:
    """`network` with the weights that lie in `folder`, frozen."""
    network.load_state_dict(load_file(folder / WEIGHTS))
    return network.eval().requires_grad_(False)


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name, whole or not at all."""
    with whole_file(path) as part:
        save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, part)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """What `save_tensors` wrote."""
    return load_file(path)
