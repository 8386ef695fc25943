"""What only a GPU shows; skipped where there is none. `docs/gpu.md` says where it last passed."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from salon.methods.base import Method, families
from salon.params import TrainingParams
from salon.seeding import seeded_generators
from salon.training import trainer
from salon.training.method import MethodBatches
from salon.training.run import ResumeFolder
from shared_training import STEPS, STOP_AFTER, Recorder, Stopped, build, make_data, stop_after, train_method

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
FAMILIES = families()
EARLY = 3  # steps in which nothing but rounding may differ


@pytest.fixture(autouse=True)
def recorder(monkeypatch) -> type[Recorder]:
    Recorder.rows.clear()
    monkeypatch.setattr(trainer, "MLFlowLogger", Recorder)
    return Recorder


def learn(method: Method, folder: Path, *, steps: int = STEPS, **settings: Any) -> tuple[Method, Any]:
    """Train on the GPU; what was logged is with the recorder."""
    asked = {"accelerator": "gpu", "devices": 1, "log_every_steps": 1, "checkpoint_every_seconds": 1e-9}
    trained = train_method(method, ResumeFolder(folder), TrainingParams(**asked | settings), steps=steps)
    return trained.task, trained.cost


def losses_by_step(recorder: type[Recorder]) -> dict[int, dict[str, float]]:
    rows = {step: {k: v for k, v in row.items() if k != "epoch"} for step, row in recorder.rows.items()}
    recorder.rows.clear()
    return rows


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_precision_trains_all_weights(family: str, precision: str, tmp_path, recorder) -> None:
    method = build(family)
    before = {name: value.clone() for name, value in method.named_parameters() if value.requires_grad}
    trained, ledger = learn(method, tmp_path, precision=precision, steps=12)
    assert ledger.precision == precision
    assert ledger.device == torch.cuda.get_device_name()
    assert ledger.peak_memory_gb > 0
    idle = [name for name, value in before.items() if torch.equal(value, method.get_parameter(name).cpu())]
    assert idle == []
    assert all(math.isfinite(value) for row in losses_by_step(recorder).values() for value in row.values())
    assert all(value.device.type == "cpu" for value in trained.state_dict().values())


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_replayed_step_is_the_step(family: str, precision: str, tmp_path, recorder) -> None:
    """The same rows, the same noise and the same losses as kernels asked for one by one."""
    learn(build(family), tmp_path / "eager", precision=precision, cuda_graphs=False)
    eager = losses_by_step(recorder)
    learn(build(family), tmp_path / "replayed", precision=precision)
    replayed = losses_by_step(recorder)
    assert len(eager) == STEPS
    for step, row in eager.items():
        assert replayed[step] == close_to(row, step=step, precision=precision), f"step {step}"


@pytest.mark.parametrize("family", FAMILIES)
def test_resumed_on_a_gpu_learns_what_the_uninterrupted_one_does(family: str, tmp_path, recorder) -> None:
    learn(build(family), tmp_path / "through", precision="32-true")
    through = losses_by_step(recorder)
    killed = build(family)
    killed.replayable = False  # type: ignore[misc]  # its losses are asked for in every step
    stop_after(killed, STOP_AFTER)
    with pytest.raises(Stopped):
        learn(killed, tmp_path / "resumed", precision="32-true")
    assert ResumeFolder(tmp_path / "resumed").start_step() == STOP_AFTER
    recorder.rows.clear()
    learn(build(family), tmp_path / "resumed", precision="32-true")
    for step, row in losses_by_step(recorder).items():
        assert row == close_to(through[step], step=step), f"step {step}"


def close_to(row: dict[str, float], *, step: int, precision: str = "32-true") -> Any:
    """A GPU adds in another order each time, and steps of a network against another make more of it."""
    tolerance = 1e-3 if precision == "32-true" and step < EARLY else 3e-2
    return pytest.approx(row, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("cuda_graphs", [True, False])
def test_a_loss_that_is_not_finite_is_found_with_its_step(cuda_graphs: bool, tmp_path) -> None:
    """A GPU is not asked in every step; the step is right all the same, and no such weights are kept."""
    method = build("diffusion")
    spoil(method)
    with pytest.raises(FloatingPointError, match=r"model: the loss is nan at step 1: "):
        learn(method, tmp_path, log_every_steps=4, checkpoint_every_seconds=1e9, cuda_graphs=cuda_graphs)
    assert not (tmp_path / "last.ckpt").exists()


def spoil(method: Method) -> None:
    """Gradients that are no numbers: so are the weights after the first step."""
    for parameter in filter(lambda each: each.requires_grad, method.parameters()):
        parameter.register_hook(lambda gradient: gradient * math.nan)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_gpu_draws_what_a_cpu_draws(family: str) -> None:
    """A seed is the same noise everywhere."""
    method = build(family).eval()
    torch.manual_seed(1)
    for parameter in method.parameters():  # layers that start at zero would hide differences
        parameter.data += 0.05 * torch.randn_like(parameter)
    text = make_data()[1].states[torch.arange(4)]
    on_cpu = method.sample(text, generator=seeded_generators(5, 4), candidates=2)
    method.frozen.to("cuda")
    method.to("cuda")
    on_gpu = method.sample(text.to("cuda"), generator=seeded_generators(5, 4), candidates=2).cpu()
    assert (on_gpu - on_cpu).abs().mean() < 0.02


def test_a_training_set_too_large_for_the_gpu_is_fed_from_beside_it(tmp_path, recorder, monkeypatch) -> None:
    learn(build("clip"), tmp_path / "resident", precision="32-true")  # it precomputes, too
    resident = losses_by_step(recorder)
    monkeypatch.setattr("salon.training.method.RESIDENT_SHARE", 0.0)
    data, cache = make_data()
    source = MethodBatches(build("diffusion"), data, cache, seed=0)
    source.to(torch.device("cuda"))
    assert not source.is_resident
    learn(build("clip"), tmp_path / "beside", precision="32-true")
    for step, row in losses_by_step(recorder).items():
        assert row == pytest.approx(resident[step], rel=1e-3), f"step {step}"
