"""Budget, schedule, averaged weights, checkpoints: the parts that every method trusts."""

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from quick_training import learn_quickly
from salon.codecs.pixels import PixelCodec
from salon.data.batches import BatchSource
from salon.data.dataset import Dataset
from salon.errors import SalonError
from salon.images import image_grid, to_float
from salon.methods.base import DataShape, FrozenNets, read_config
from salon.nn.trainable import Losses, Trainable
from salon.paths import Paths
from salon.seeding import seeded_generators
from salon.towers.states import TextStateCache, TextStates
from salon.training.cost import count_step_flops, steps_within
from salon.training.method import MethodBatches
from salon.training.module import Optimization, TrainingModule, warmup_hold_decay
from salon.training.run import resume_folder


def test_flops_of_a_linear_layer_by_hand() -> None:
    """Forward 2*b*i*o; backward the same for the weight and, where asked for, for the input."""
    layer = nn.Linear(30, 50, bias=False)
    x = torch.randn(8, 30)
    forward = 2 * 8 * 30 * 50
    assert count_step_flops(layer, lambda twin: twin(x).sum()) == 2 * forward
    x.requires_grad_()
    assert count_step_flops(layer, lambda twin: twin(x).sum()) == 3 * forward


def test_flops_of_attention_by_hand() -> None:
    """Two products of n x n x d per head, forward once and backward twice."""
    q = torch.randn(2, 3, 5, 8, requires_grad=True)
    forward = 2 * (2 * 2 * 3 * 5 * 5 * 8)

    class Attention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.scaled_dot_product_attention(x, x, x)

    assert count_step_flops(Attention(), lambda twin: twin(q).sum()) == 3 * forward


def test_counting_flops_changes_neither_weights_nor_randomness() -> None:
    layer = nn.Sequential(nn.Linear(4, 4), nn.Dropout())
    weight = layer[0].weight.clone()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    count_step_flops(layer, lambda twin: twin(torch.randn(2, 4)).sum())
    assert torch.equal(torch.rand(2), expected)
    assert torch.equal(layer[0].weight, weight)
    assert layer[0].weight.grad is None


def test_the_budget_pays_the_shared_stages_first() -> None:
    assert steps_within(1000, shared_flops=100, step_flops=90, name="gan") == 10
    with pytest.raises(SalonError, match=r"method 'gan': budget\.train_flops = 100 does not cover"):
        steps_within(100, shared_flops=90, step_flops=20, name="gan")


def test_learning_rate_rises_holds_and_falls_to_zero() -> None:
    factors = [
        warmup_hold_decay(step, total_steps=100, warmup_fraction=0.1, decay_fraction=0.4)
        for step in range(100)
    ]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9:60] == [1.0] * 51
    assert factors[80] == pytest.approx(0.5)
    assert 0 < factors[99] < 0.03
    assert warmup_hold_decay(100, total_steps=100, warmup_fraction=0.1, decay_fraction=0.4) == 0


class Line(Trainable):
    """The slope of a line through three times each number."""

    def __init__(self, spoiled_at: float = 2.0) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.spoiled_at, self.progress = spoiled_at, 0.0

    def before_step(self, progress: float) -> None:
        self.progress = progress

    def losses(self, batch: torch.Tensor, *, objective: str, generator: torch.Generator) -> Losses:
        error = (self.layer(batch) - 3 * batch).square().mean()
        return Losses(error * math.nan if self.progress >= self.spoiled_at else error)


class Numbers(BatchSource):
    """From -1 to 1, all of them in every batch."""

    def __init__(self) -> None:
        super().__init__(32, batch_size=32, seed=0)

    def batch(self, rows: torch.Tensor, *, step: int) -> torch.Tensor:
        return torch.linspace(-1, 1, 32)[rows, None]


def test_whatever_can_be_trained_is_minimised_and_reported() -> None:
    torch.manual_seed(0)
    optimization = Optimization(lr=0.05, weight_decay=0)
    trained = learn_quickly(Line(), Numbers(), steps=300, lr=0, optimization=optimization)
    assert trained.loss < 1e-3
    assert trained.task.layer.weight.item() == pytest.approx(3, abs=0.05)
    assert not trained.task.training
    assert (trained.cost.steps, trained.cost.images_seen, trained.cost.parameters) == (300, 9600, 2)


def test_a_training_stops_at_a_loss_that_is_not_finite() -> None:
    with pytest.raises(FloatingPointError, match="model: the loss is nan at step 2: lower its lr"):
        learn_quickly(Line(spoiled_at=0.5), Numbers(), steps=4, lr=0.1)


def test_held_out_values_are_those_of_the_averaged_weights_and_always_of_the_same_noise(module) -> None:
    logged: dict[str, list[float]] = {}
    module.log = lambda name, value, **_: logged.setdefault(name, []).append(float(value))
    module._source.to(torch.device("cpu"))
    module._generator = torch.Generator()
    for weights in (0.0, 0.0, 1.0):
        with torch.no_grad():
            for parameter in module.task.parameters():  # the live weights count for nothing
                parameter.add_(1.0)
            for parameter in module.averaged.parameters():
                parameter.add_(weights)
        module.validation_step((0, torch.arange(4)), 0)
    first, second, third = logged["val/model"]
    assert first == second != third


def test_seeded_generators_do_not_depend_on_the_batch() -> None:
    together = [torch.rand(1, generator=g).item() for g in seeded_generators(7, 5)]
    alone = [torch.rand(1, generator=seeded_generators(7, 1, first=i)[0]).item() for i in range(5)]
    assert together == alone
    assert len(set(together)) == 5


def test_grid_places_pictures_row_by_row() -> None:
    images = torch.linspace(-1, 1, 3)[:, None, None, None].expand(3, 3, 2, 2)
    grid = image_grid(images, columns=2, gap=1, zoom=2)
    assert grid.size == (9, 9)
    assert grid.getpixel((0, 0)) == (0, 0, 0)
    assert grid.getpixel((5, 0)) == (128, 128, 128)
    assert grid.getpixel((0, 5)) == (255, 255, 255)
    assert grid.getpixel((4, 0)) == (255, 255, 255)  # the gap


def test_a_checkpoint_of_other_settings_is_not_resumed(tmp_path) -> None:
    paths = Paths(tmp_path)
    (tmp_path / "input.json").write_text("1")
    arguments = {"settings": {"lr": 1}, "inputs": [tmp_path / "input.json"]}
    first = resume_folder(paths, "diffusion", **arguments)
    assert resume_folder(paths, "diffusion", **arguments) == first
    assert resume_folder(paths, "diffusion", **{**arguments, "settings": {"lr": 2}}) != first
    (tmp_path / "input.json").write_text("2")
    assert resume_folder(paths, "diffusion", **arguments) != first

    assert (first.start_step(), first.run_id, first.checkpoint) == (0, None, None)
    first.remember_run("abc")
    assert first.run_id == "abc"
    first.discard()
    assert first.run_id is None


@pytest.fixture
def module(ingested_world: Path) -> TrainingModule:
    """A small diffusion model before its first step."""
    data = Dataset(ingested_world / "data/interim")["val"]
    captions = sorted(set(data.captions))
    n = len(captions)
    cache = TextStateCache(
        captions,
        TextStates(
            torch.randn(n, 2, 8), torch.ones(n, 2, dtype=torch.bool), torch.randn(n, 8), torch.randn(n, 8)
        ),
    )
    method_class, config = read_config("diffusion", {"ema_decay": 0.9})
    shape = DataShape(image_size=32, text_width=8, pooled_width=8, concept_width=8)
    method = method_class(config, shape, FrozenNets(PixelCodec(), nn.Identity()))
    source = MethodBatches(method, data, cache, seed=0)
    optimization = Optimization.from_config(config)
    return TrainingModule(method, source, optimization=optimization, total_steps=3, seed=0, held_out=source)


def test_losses_that_were_not_looked_at_are_found_with_their_step(module: TrainingModule) -> None:
    unseen = {step: torch.tensor(value) for step, value in {5: 1.0, 6: float("inf"), 7: 1.0}.items()}
    module._unchecked["model"] |= unseen
    with pytest.raises(FloatingPointError, match="model: the loss is inf at step 6: lower its lr"):
        module.on_save_checkpoint({})
    module.on_save_checkpoint({})  # each is looked at once


def test_gradients_are_clipped(module: TrainingModule) -> None:
    optimizer = torch.optim.SGD(module.task.parameters(), lr=1.0)
    for parameter in module.task.parameters():
        parameter.grad = torch.ones_like(parameter)
    module.on_before_optimizer_step(optimizer)
    norm = torch.stack([p.grad.norm() for p in module.task.parameters()]).norm()
    assert norm.item() == pytest.approx(module.optimization.grad_clip_norm, rel=1e-3)


def test_weights_are_averaged_as_torch_averages_them(module: TrainingModule) -> None:
    """Buffers, too, and one that is another tensor in every step."""
    module.task.register_buffer("mean", torch.zeros(2))
    module.averaged.register_buffer("mean", torch.zeros(2))
    theirs = copy.deepcopy(module.ema)
    module.on_train_start()
    for module.step in range(3):
        with torch.no_grad():
            for parameter in module.task.parameters():
                parameter.add_(torch.randn_like(parameter))
        module.task.mean = module.task.mean + 1
        module._average()
        theirs.update_parameters(module.task)
    for name, value in theirs.state_dict().items():
        assert torch.equal(module.ema.state_dict()[name], value), name


def test_a_batch_is_the_same_wherever_the_training_set_lies(module: TrainingModule, monkeypatch) -> None:
    method, data, cache = module.task, module._source.data, module._source.cache
    monkeypatch.setattr(method, "precompute", lambda images: images.sum(dim=(1, 2, 3)))
    rows = torch.tensor([7, 0, 7])
    resident, beside = (MethodBatches(method, data, cache, seed=0) for _ in range(2))
    resident.to(torch.device("cpu"))
    monkeypatch.setattr("salon.training.method.RESIDENT_SHARE", 0.0)
    beside.to(torch.device("cpu"))
    assert (resident.is_resident, beside.is_resident) == (True, False)
    for batch in (resident.batch(rows, step=0), beside.batch(rows, step=0)):
        assert torch.equal(batch.images, to_float(data.images[rows]))
        assert torch.allclose(batch.precomputed, batch.images.sum(dim=(1, 2, 3)), atol=1e-3)
        assert torch.equal(batch.text.pooled[1], cache.states.pooled[cache.captions.index(data.captions[0])])


def test_averaged_weights_follow_the_decay(module: TrainingModule) -> None:
    """One step from theta0 to theta1 leaves the average at decay * theta0 + (1 - decay) * theta1."""
    method = module.task
    name, parameter = next(iter(method.named_parameters()))
    averaged = dict(module.averaged.named_parameters())[name]
    module.on_train_start()
    module._average()  # after the first step the weights are taken as they are
    module.step = 1
    start = parameter.detach().clone()
    with torch.no_grad():
        parameter.add_(1.0)
    module._average()
    assert torch.allclose(averaged, start + 0.1, atol=1e-6)
    assert module.averaged.codec is method.codec, "the frozen codec is shared, not copied"
    assert not any(p.requires_grad for p in module.ema.parameters())
    with pytest.raises(RuntimeError, match="the loader is at step 2, the weights at step 1"):
        module.training_step((2, torch.arange(4)), 2)
