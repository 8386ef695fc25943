"""A picture does not depend on what it was drawn with: real methods of all families, untrained."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from five_methods import METHODS, write_bundles
from salon.inference.bundle import read_models
from salon.inference.model import BATCH, LoadedModel, ModelCache
from salon.inference.request import PictureRequest
from salon.nn.products import (
    Conv2d,
    Linear,
    adopt,
    batch_invariant,
    conv2d,
    linear,
    multiplies_bf16,
    padded_count,
)
from salon.towers.states import TextStates

PROMPTS = ("an owl on a blue background", "ракета на полосатом фоне", "owl", "a pizza " * 20)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_bundles(tmp_path_factory.mktemp("five"))


@pytest.fixture(scope="module")
def champions(bundles: dict[str, Path]) -> dict[str, LoadedModel]:
    loader = ModelCache()
    return {name: loader.load(read_models(bundle)[name], version="1") for name, bundle in bundles.items()}


def request_of(seed: int, *, steps: int | None = None, guidance_scale: float | None = None) -> PictureRequest:
    return PictureRequest(PROMPTS[seed % len(PROMPTS)], seed, steps, guidance_scale)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("guidance_scale", [None, 1.0])
def test_bytes_are_the_same_alone_and_in_every_batch(
    champions: dict[str, LoadedModel], name: str, guidance_scale: float | None
):
    loaded = champions[name]
    asked = [request_of(seed, guidance_scale=guidance_scale) for seed in range(BATCH)]
    alone = [loaded.draw([request])[0].png for request in asked]
    assert len(set(alone)) == BATCH
    for size in (2, 3, 7, BATCH):
        for start in (0, 5 * (size < BATCH)):  # at other places, beside others
            drawn = loaded.draw(asked[start : start + size])
            assert [picture.png for picture in drawn] == alone[start : start + size], (size, start)
    assert all(loaded._exact.values())  # so that they were really drawn together


@pytest.mark.parametrize("steps", [1, 3, 16])
def test_bytes_are_the_same_for_other_steps_and_each_number_of_steps_is_proven(
    champions: dict[str, LoadedModel], steps: int
):
    """The passes of `vqvae` work on as many codes as are masked: at 16 steps, on as few as six."""
    loaded = champions["vqvae"]
    asked = [request_of(seed, steps=steps) for seed in range(BATCH)]
    alone = [loaded.draw([request])[0].png for request in asked]
    loaded._exact.clear()
    for size in (2, 5, BATCH):
        assert [picture.png for picture in loaded.draw(asked[:size])] == alone[:size], size
    assert loaded._exact == {(2, steps, False): True, (8, steps, False): True, (16, steps, False): True}


def test_a_proof_that_is_cut_short_proves_nothing(champions: dict[str, LoadedModel]):
    loaded = champions["vqvae"]
    loaded._exact.clear()

    def too_late() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        loaded.draw([request_of(0, steps=4), request_of(1, steps=4)], check=too_late)
    assert not loaded._exact


def test_bytes_are_the_same_with_two_threads(bundles: dict[str, Path]):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        loader = ModelCache()
        for name, bundle in bundles.items():
            loaded = loader.load(read_models(bundle)[name], version="1")
            asked = [request_of(seed) for seed in range(4)]
            alone = [loaded.draw([request])[0].png for request in asked]
            for size in (2, 3, 4):
                assert [picture.png for picture in loaded.draw(asked[:size])] == alone[:size], (name, size)
            assert all(loaded._exact.values()), name
    finally:
        torch.set_num_threads(before)


def test_without_it_a_batch_does_change_bits():
    """What the module is for; when this fails, torch no longer needs it."""
    torch.manual_seed(0)
    x, weight = torch.randn(32, 256), torch.randn(4096, 256)
    plain = F.linear(x, weight)
    assert torch.equal(linear(x, weight), plain)
    assert not torch.equal(plain[:2], linear(x[:2], weight))
    with batch_invariant():
        exact = linear(x, weight)
        assert torch.equal(exact[:2], linear(x[:2], weight))
        assert torch.equal(exact[5:6], linear(x[5:6], weight))
    torch.testing.assert_close(exact, plain, rtol=1e-4, atol=1e-4)


def test_shapes_gradients_and_bias_are_those_of_a_linear_map():
    torch.manual_seed(0)
    weight, bias = torch.randn(5, 3), torch.randn(5)
    for shape in ((3,), (1, 3), (7, 3), (8, 3), (2, 9, 3), (2, 3, 4, 3)):
        x = torch.randn(shape, requires_grad=True)
        with batch_invariant():
            exact = linear(x, weight, bias)
        plain = F.linear(x, weight, bias)
        torch.testing.assert_close(exact, plain)
        torch.testing.assert_close(
            torch.autograd.grad(exact.square().sum(), x), torch.autograd.grad(plain.square().sum(), x)
        )


def test_products_of_bf16_are_those_of_rounded_factors(monkeypatch: pytest.MonkeyPatch):
    """Where allowed and only with many tokens; added up in fp32, and by hardware alike in any batch."""
    in_hardware = multiplies_bf16()
    monkeypatch.setattr("salon.nn.products.multiplies_bf16", lambda: True)
    torch.manual_seed(0)
    tokens, weight, bias = torch.randn(6, 64, 128), torch.randn(48, 128), torch.randn(48)
    rounded = F.linear(tokens.bfloat16().double(), weight.bfloat16().double()) + bias
    with batch_invariant(half=True), torch.no_grad():
        halves = linear(tokens, weight, bias)
        assert halves.dtype == torch.float32
        for rows in (slice(0, 1), slice(2, 5)):
            again = linear(tokens[rows], weight, bias)
            assert torch.equal(again, halves[rows]) or not in_hardware
        few = linear(tokens[:, :3], weight)
    # the product itself is rounded, too
    assert (halves - rounded).abs().max() <= 2**-8 * rounded.abs().max()
    with batch_invariant():
        assert torch.equal(linear(tokens[:, :3], weight), few)
        assert not torch.equal(linear(tokens, weight, bias), halves)


def test_probes_are_of_fp32_whatever_the_processor_has(
    champions: dict[str, LoadedModel], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    loaded = champions["vqvae"]
    drawn = {}
    for has_bf16 in (True, False):
        monkeypatch.setattr("salon.nn.products.multiplies_bf16", lambda has_bf16=has_bf16: has_bf16)
        loaded.write_golden_samples(tmp_path / "probes.json")
        drawn[has_bf16] = (tmp_path / "probes.json").read_text(encoding="utf-8")
    assert drawn[True] == drawn[False]


def test_other_threads_and_what_comes_after_are_left_alone():
    x, weight = torch.randn(3, 4), torch.randn(5, 4)
    checks = []
    with batch_invariant(lambda: checks.append(1)):
        thread = threading.Thread(target=lambda: linear(x, weight))
        thread.start()
        thread.join()
        assert not checks
        linear(x, weight)
        with batch_invariant():
            linear(x, weight)
        assert len(checks) == 1
    linear(x, weight)
    assert len(checks) == 1


def test_networks_are_adopted_with_their_weights_and_answers():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, stride=2, padding=1), torch.nn.Flatten(), torch.nn.Linear(8 * 16, 4)
    )
    x, before = torch.randn(4, 3, 8, 8), network.state_dict().keys()
    plain = network(x)
    checks = []
    assert torch.equal(adopt(network)(x), plain)
    assert network.state_dict().keys() == before
    with batch_invariant(lambda: checks.append(1)):
        torch.testing.assert_close(network(x), plain)
        torch.testing.assert_close(network(x[:1]), plain[:1])
        torch.testing.assert_close(conv2d(x[:1], network[0].weight), F.conv2d(x[:1], network[0].weight))
    assert len(checks) == 2


def test_no_network_that_draws_multiplies_past_them(champions: dict[str, LoadedModel]):
    """All that a registered method draws with goes through the two functions, the towers too."""
    for champion in champions.values():
        towers = champion.method.towers
        for network in (champion.method, champion.method.codec, towers.text, towers.image):
            for name, module in network.named_modules():
                if isinstance(module, torch.nn.Linear | torch.nn.Conv2d):
                    assert isinstance(module, Linear | Conv2d), name


def test_batches_that_round_otherwise_are_drawn_one_by_one(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
):
    loader = ModelCache()
    loader.device = torch.device("cpu")  # elsewhere all batches are of one size
    loaded = loader.load(read_models(bundles["diffusion"])["diffusion"], version="1")
    sample, sizes = loaded.method.sample, []

    def with_noise(text: TextStates, **options: Any) -> torch.Tensor:
        sizes.append(len(text))
        return sample(text, **options) + 1e-6 * len(text)

    monkeypatch.setattr(loaded.method, "sample", with_noise)
    loaded.draw([request_of(seed) for seed in range(3)])
    assert sizes.count(4) == 1  # the attempt
    assert sizes[-3:] == [1, 1, 1]
    sizes.clear()
    loaded.draw([request_of(seed) for seed in range(3)])
    assert sizes == [1, 1, 1]


def test_off_the_cpu_all_batches_have_one_size():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [padded_count(count, cpu) for count in (1, 3, 16, 17)] == [1, 4, 16, 32]
    assert [padded_count(count, gpu) for count in (1, 3, 16, 17)] == [16, 16, 16, 32]


def test_towers_and_codecs_that_are_equal_are_loaded_once(champions: dict[str, LoadedModel]):
    assert len({id(loaded.encoder) for loaded in champions.values()}) == 1
    codecs = {name: id(loaded.method.codec) for name, loaded in champions.items()}
    assert codecs["gan"] == codecs["clip"] == codecs["diffusion"]
    assert len({codecs[name] for name in ("gan", "vqvae", "dalle")}) == 3
