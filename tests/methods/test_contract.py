"""What every method must do. A new method in `salon.methods` is tested here without a line of its own."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from frozen_nets import fit_codec, fit_towers
from salon.errors import SalonError
from salon.evaluation.search_space import PRIORS
from salon.families import family_of
from salon.images import to_uint8
from salon.methods.base import (
    DataShape,
    FrozenNets,
    Method,
    families,
    find_method,
    load_method,
    read_config,
)
from salon.seeding import seeded_generators
from salon.towers.states import Batch, TextStates

IMAGE_SIZE = 16
PICTURES = 8
OVERFIT_STEPS = 300
SHAPE = DataShape(image_size=IMAGE_SIZE, text_width=24, pooled_width=32, concept_width=28)


@pytest.fixture(scope="module", params=families())
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    """Eight pictures that nobody confuses: two-coloured halves, in [-1, 1]."""
    generator = torch.Generator().manual_seed(1)
    colours = torch.rand(PICTURES, 2, 3, generator=generator).mul(2).sub(1).sign() * 0.8
    colours[:, 1] = -colours[:, 0].roll(1, dims=0)
    images = torch.empty(PICTURES, 3, IMAGE_SIZE, IMAGE_SIZE)
    for i in range(PICTURES):
        images[i] = colours[i, 0][:, None, None]
        if i % 2:
            images[i, :, :, IMAGE_SIZE // 2 :] = colours[i, 1][:, None, None]
        else:
            images[i, :, IMAGE_SIZE // 2 :] = colours[i, 1][:, None, None]
    distance = torch.cdist(images.flatten(1), images.flatten(1)) + 1e9 * torch.eye(PICTURES)
    assert distance.min() > 5
    return images


@pytest.fixture(scope="module")
def captions() -> TextStates:
    """States as the text tower gives them: unit embeddings, padded tokens."""
    generator = torch.Generator().manual_seed(2)
    pooled = torch.nn.functional.normalize(
        torch.randn(PICTURES, SHAPE.pooled_width, generator=generator), dim=1
    )
    mask = torch.arange(6)[None] < 3 + torch.arange(PICTURES)[:, None] % 4
    tokens = torch.randn(PICTURES, 6, SHAPE.text_width, generator=generator)
    return TextStates(tokens, mask, pooled, torch.randn(PICTURES, SHAPE.concept_width, generator=generator))


@pytest.fixture(scope="module")
def frozen(family: str, pictures: torch.Tensor, captions: TextStates) -> FrozenNets:
    """The family's default codec, and towers in which these pictures and captions belong together."""
    _, config = read_config(family, {"family": family})
    return FrozenNets(fit_codec(config.codec, pictures), fit_towers(pictures, captions))


@pytest.fixture(scope="module")
def overfitted(family: str, pictures: torch.Tensor, captions: TextStates, frozen: FrozenNets) -> Method:
    """The method with its default settings, trained on the eight pictures alone."""
    torch.manual_seed(0)
    method_class, config = read_config(family, {"family": family})
    method = method_class(config, SHAPE, frozen)
    repeated = torch.arange(2 * PICTURES) % PICTURES
    batch = batch_of(method, pictures[repeated], captions[repeated])
    optimizers = {
        objective: torch.optim.AdamW(method.parameters_of(objective), lr=config.lr, betas=config.betas)
        for objective in method.objectives
    }
    for step in range(OVERFIT_STEPS):
        generator = torch.Generator().manual_seed(step)
        for objective, optimizer in optimizers.items():
            for group in optimizer.param_groups:  # decayed to zero, as in a real training
                group["lr"] = config.lr * min(1.0, 2 * (1 - step / OVERFIT_STEPS))
            losses = method.losses(batch, objective=objective, generator=generator)
            optimizer.zero_grad()
            losses.total.backward()
            torch.nn.utils.clip_grad_norm_(method.parameters_of(objective), config.grad_clip_norm)
            optimizer.step()
    return method.eval()


def batch_of(method: Method, pictures: torch.Tensor, captions: TextStates) -> Batch:
    with torch.no_grad():
        return Batch(pictures, captions, method.precompute(pictures))


def sample(method: Method, captions: TextStates, *, seed: int) -> torch.Tensor:
    return method.sample(captions, generator=seeded_generators(seed, len(captions)))


def test_what_it_knows_by_heart_leaves_through_its_channel_recognisably(
    overfitted: Method, pictures: torch.Tensor, captions: TextStates
) -> None:
    first, again = (
        overfitted.channel(pictures, captions, generator=torch.Generator().manual_seed(4)) for _ in range(2)
    )
    assert torch.equal(first, again)
    assert first.shape == pictures.shape
    nearest = torch.cdist(first.flatten(1), pictures.flatten(1)).argmin(dim=1)
    assert nearest.tolist() == list(range(PICTURES))


def test_overfits_eight_pictures(overfitted: Method, pictures: torch.Tensor, captions: TextStates) -> None:
    drawn = sample(overfitted, captions, seed=3)
    nearest = torch.cdist(drawn.flatten(1), pictures.flatten(1)).argmin(dim=1)
    assert nearest.tolist() == list(range(PICTURES))
    assert (drawn - pictures).square().mean() < 0.05


def test_pictures_have_the_right_shape_and_range(overfitted: Method, captions: TextStates) -> None:
    drawn = sample(overfitted, captions[:3], seed=3)
    assert drawn.shape == (3, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert drawn.dtype == torch.float32
    assert drawn.abs().max() <= 1


def test_same_seed_same_picture(overfitted: Method, captions: TextStates) -> None:
    assert torch.equal(sample(overfitted, captions, seed=3), sample(overfitted, captions, seed=3))


def test_another_seed_gives_another_picture(family: str, captions: TextStates, frozen: FrozenNets) -> None:
    """Untrained, so that overfitting cannot hide a sampler that ignores its generator."""
    torch.manual_seed(0)
    method_class, config = read_config(family, {"family": family})
    method = method_class(config, SHAPE, frozen).eval()
    for parameter in method.parameters():  # a layer that starts at zero would hide the noise
        parameter.data += 0.02 * torch.randn_like(parameter)
    assert not torch.equal(sample(method, captions, seed=3), sample(method, captions, seed=4))


def test_a_picture_does_not_depend_on_its_batch(overfitted: Method, captions: TextStates) -> None:
    """Up to the rounding of differently shaped matrix products."""
    together = to_uint8(sample(overfitted, captions, seed=3)).int()
    alone = overfitted.sample(captions[5:6], generator=seeded_generators(3, 1, first=5))
    assert (to_uint8(alone).int() - together[5:6]).abs().max() <= 1


def test_the_caption_changes_the_picture(overfitted: Method, captions: TextStates) -> None:
    swapped = captions[torch.arange(PICTURES).roll(1)]
    a, b = sample(overfitted, captions, seed=3), sample(overfitted, swapped, seed=3)
    assert (a - b).abs().mean(dim=(1, 2, 3)).min() > 0.05


def test_saved_and_loaded_draws_the_same(
    overfitted: Method, captions: TextStates, family: str, frozen: FrozenNets, tmp_path
) -> None:
    overfitted.save_pretrained(tmp_path)
    loaded = load_method(tmp_path, frozen)
    assert family_of(type(loaded)) == family
    assert torch.equal(sample(overfitted, captions, seed=3), sample(loaded, captions, seed=3))
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}
    config = (tmp_path / "config.json").read_text(encoding="utf-8")  # as the release before wrote it:
    (tmp_path / "config.json").write_text(config.replace("concept_width", "words_width"), encoding="utf-8")
    assert load_method(tmp_path, frozen).shape == SHAPE


def test_it_draws_with_whatever_is_tried_of_its_sampler(overfitted: Method, captions: TextStates) -> None:
    own = overfitted.sampler_settings
    assert own
    before = sample(overfitted, captions, seed=3)
    try:
        for name in own:
            for share in (0.0, 1.0):
                overfitted.draw_with({name: PRIORS[name].at(share)})
                assert getattr(overfitted.config, name) == PRIORS[name].at(share)
                drawn = sample(overfitted, captions, seed=3)
                assert drawn.isfinite().all()
                assert drawn.abs().max() <= 1
            overfitted.draw_with(own)
        assert torch.equal(sample(overfitted, captions, seed=3), before)
        for wrong in ({"batch_size": 2}, {next(iter(own)): -1.0}):
            with pytest.raises(SalonError, match="setting"):
                overfitted.draw_with(wrong)
    finally:
        overfitted.draw_with(own)


def test_the_same_batch_and_generator_give_the_same_loss(
    overfitted: Method, pictures: torch.Tensor, captions: TextStates
) -> None:
    for objective in overfitted.objectives:
        first, second = (
            overfitted.losses(
                batch_of(overfitted, pictures, captions),
                objective=objective,
                generator=torch.Generator().manual_seed(9),
            )
            for _ in range(2)
        )
        assert torch.equal(first.total, second.total)
        assert all(torch.equal(first.terms[name], second.terms[name]) for name in first.terms | second.terms)


class Waits(TorchDispatchMode):
    """Notes operations for whose results the CPU has to wait."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "bincount", "_unique2")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indices = args[1] if name.startswith("index") and isinstance(args[1], list | tuple) else ()
        if name in self.NAMES or any(index is not None and index.dtype == torch.bool for index in indices):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def test_what_may_be_replayed_never_waits(
    overfitted: Method, pictures: torch.Tensor, captions: TextStates
) -> None:
    if not overfitted.replayable:
        pytest.skip("its losses do not say that they may be replayed")
    batch = batch_of(overfitted, pictures, captions)
    for objective in overfitted.objectives:
        with Waits() as waits, torch.enable_grad():
            overfitted.losses(
                batch, objective=objective, generator=torch.Generator().manual_seed(9)
            ).total.backward()
        assert waits.found == []
    with Waits() as waits:
        pictures[pictures > 0].sum().item()
    assert len(waits.found) == 2, "the test would not notice"


def test_every_parameter_is_trained(
    family: str, pictures: torch.Tensor, captions: TextStates, frozen: FrozenNets
) -> None:
    """After a few steps (zero-initialised layers block the first gradients) no parameter is left out."""
    torch.manual_seed(0)
    method_class, config = read_config(family, {"family": family})
    method = method_class(config, SHAPE, frozen)
    batch = batch_of(method, pictures, captions)
    before = {name: value.clone() for name, value in method.named_parameters() if value.requires_grad}
    for objective in method.objectives:
        optimizer = torch.optim.Adam(method.parameters_of(objective))  # moves on any gradient but zero
        for step in range(12):
            optimizer.zero_grad()
            method.losses(
                batch, objective=objective, generator=torch.Generator().manual_seed(step)
            ).total.backward()
            optimizer.step()
    idle = [name for name, value in before.items() if torch.equal(value, method.get_parameter(name))]
    assert idle == []


def test_several_candidates_end_in_one_picture_that_no_other_caption_touches(
    overfitted: Method, captions: TextStates
) -> None:
    several = overfitted.sample(captions[:2], generator=seeded_generators(3, 2), candidates=3)
    assert several.shape == (2, 3, IMAGE_SIZE, IMAGE_SIZE)
    drawn = []
    for row, generator in enumerate(seeded_generators(3, 2)):
        alone = overfitted.sample(captions[row : row + 1], generator=generator, candidates=3)
        drawn.append((alone[0] - several[row]).abs().max())
    assert max(drawn) < 0.02
    with pytest.raises(SalonError, match="candidates 0 is out of range"):
        overfitted.sample(captions[:1], generator=torch.Generator(), candidates=0)


def test_a_method_is_found_by_its_module_name(family: str) -> None:
    assert family_of(find_method(family)) == family
