"""FLOPs and parameters of a picture: all that draws it, and nothing that only trained it."""

from pathlib import Path

import pytest
import torch

from five_methods import CAPTIONS, METHODS, write_bundles
from salon.evaluation.footprint import count_parameters, drawing_cost
from salon.inference.bundle import read_models
from salon.inference.model import ModelCache
from salon.methods.base import Method
from salon.towers.states import TextStates

Loaded = dict[str, tuple[Method, TextStates]]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    found = {}
    bundles: dict[str, Path] = write_bundles(tmp_path_factory.mktemp("five"))
    for name, bundle in bundles.items():
        ((_, package),) = read_models(bundle).items()
        model = ModelCache().load(package, version="1")
        found[name] = model.method, model.encoder.tower.encode_text(CAPTIONS[:3])
    return found


@pytest.mark.parametrize("name", METHODS)
def test_what_draws_a_picture_is_counted_with_its_codec(loaded: Loaded, name: str) -> None:
    method, text = loaded[name]
    cost = drawing_cost(method, text)
    whole = count_parameters(method) + count_parameters(method.codec)
    assert cost["parameters"] + cost["training_parameters"] == whole
    assert (cost["training_parameters"] > 0) == (name == "gan")
    assert (count_parameters(method.codec) > 0) == (name in ("vqvae", "dalle"))
    assert cost["picture_flops"] > 2 * 32 * 32  # at least a product per pixel


def test_a_discriminator_draws_nothing(loaded: Loaded) -> None:
    method, text = loaded["gan"]
    cost = drawing_cost(method, text)
    before = method.discriminator
    method.discriminator = torch.nn.Identity()
    found = drawing_cost(method, text)
    method.discriminator = before
    assert found["picture_flops"] == cost["picture_flops"]
    assert (found["parameters"], found["training_parameters"]) == (cost["parameters"], 0)


def test_every_step_and_candidate_is_counted(loaded: Loaded) -> None:
    method, text = loaded["diffusion"]
    cost = drawing_cost(method, text)
    own = method.config
    method.config = own.model_copy(update={"num_inference_steps": 2 * own.num_inference_steps})
    assert drawing_cost(method, text)["picture_flops"] > 1.5 * cost["picture_flops"]
    method.config = own.model_copy(update={"candidates": 4})
    assert drawing_cost(method, text)["picture_flops"] > 4 * cost["picture_flops"]
    method.config = own


def test_guidance_by_the_towers_is_counted_with_its_gradient(loaded: Loaded) -> None:
    method, text = loaded["clip"]
    cost = drawing_cost(method, text)
    own = method.config
    method.config = own.model_copy(update={"refinement": 0.1, "refinement_interval": (0.0, 1.0)})
    assert drawing_cost(method, text)["picture_flops"] > cost["picture_flops"]
    method.config = own
