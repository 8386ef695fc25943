"""Several processes that share a batch learn what one process learns, and resume as one does."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ports import free_port
from salon.devices import count_processes, resolve_precision, resolve_strategy, single_device
from salon.errors import SalonError
from salon.methods.base import families
from salon.nn.distributed import gather, own_rows, weight
from salon.nn.noise import batch_noise
from salon.params import TrainingParams
from salon.params.section import parse_section
from salon.training import trainer
from salon.training.run import ResumeFolder
from shared_training import RESUMED, STEPS, Recorder, build, learn_all, train_method

SCRIPT = Path(__file__).parents[1] / "support" / "shared_training.py"
PROCESSES = 2
# a relativistic loss compares logits: their common offset has no gradient, only Adam's share of its rounding
CANCELLED = {"discriminator.realness.bias"}
# of one weight: a tenth of what Adam moves it in a step, however small its gradient, were it but rounding
ROUNDING = 1e-3


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What one process learned, and each of two real ones that talk through gloo."""
    folder = tmp_path_factory.mktemp("shared")
    port = free_port()
    # the environment that Lightning's launcher, torchrun and SLURM give their processes
    launched = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder)],
            env=os.environ
            | {"LOCAL_RANK": str(i), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(PROCESSES)
    ]
    one = learn_all(folder / "alone", processes=1)
    for process in launched:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    several = [torch.load(folder / f"{i}.pt", weights_only=True) for i in range(PROCESSES)]
    return {"one": one, "first": several[0], "second": several[1]}


@pytest.mark.parametrize("family", [*families(), *(f"{family} resumed" for family in RESUMED)])
def test_two_processes_learn_what_one_does(learned, family: str) -> None:
    alone, shared = (learned[who][family] for who in ("one", "first"))
    assert len(shared["losses"]) == STEPS
    for step, losses in alone["losses"].items():
        assert shared["losses"][step] == pytest.approx(losses, rel=1e-4, abs=1e-5), step
    for name, weights in alone["weights"].items():
        if name not in CANCELLED:
            difference = shared["weights"][name] - weights
            assert difference.norm() <= 1e-3 * weights.norm(), name
            assert difference.abs().max() <= ROUNDING, name
    moved = learned["one"][family]["losses"]
    assert moved[0] != pytest.approx(moved[STEPS - 1], rel=1e-3), "nothing was learned: nothing was compared"


@pytest.mark.parametrize("family", families())
def test_all_processes_hold_the_same_weights(learned, family: str) -> None:
    for name, weights in learned["first"][family]["weights"].items():
        assert torch.equal(weights, learned["second"][family]["weights"][name]), name


@pytest.mark.parametrize("family", RESUMED)
@pytest.mark.parametrize("who", ["one", "first"])
def test_resuming_repeats_the_rest_bit_for_bit(learned, family: str, who: str) -> None:
    through, resumed = learned[who][family], learned[who][f"{family} resumed"]
    assert resumed["losses"] == through["losses"]
    for name, weights in through["weights"].items():
        assert torch.equal(weights, resumed["weights"][name]), name


def test_the_settings_reach_the_trainer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Asked(Exception):
        pass

    asked: dict[str, Any] = {}

    def refuse(**arguments: Any) -> None:
        asked.update(arguments)
        raise Asked

    monkeypatch.setattr(trainer.L, "Trainer", refuse)
    monkeypatch.setattr(trainer, "MLFlowLogger", Recorder)
    wanted = {
        "accelerator": "gpu",
        "devices": 4,
        "num_nodes": 2,
        "strategy": "ddp_spawn",
        "precision": "16-mixed",
    }
    with pytest.raises(Asked):
        train_method(build("diffusion"), ResumeFolder(tmp_path), TrainingParams(**wanted), steps=1)
    assert {name: asked[name] for name in wanted} == wanted


def test_small_networks_take_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert single_device(TrainingParams(accelerator="cpu")).type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    assert single_device(TrainingParams()).type == "cuda"
    assert single_device(TrainingParams(accelerator="cpu")).type == "cpu"
    assert resolve_precision("auto") == "bf16-mixed"
    assert resolve_precision("auto", accelerator="cpu") == "32-true"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    assert resolve_precision("auto") == "32-true", "emulated bf16 is slower than fp32"


def test_a_gpu_that_is_asked_for_and_missing_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SalonError, match=r"training\.accelerator is gpu, and torch .* sees no GPU"):
        single_device(TrainingParams(accelerator="gpu"))


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"devices": 0}, "devices: .*0 is neither auto, -1, a number from 1, nor a list of GPUs"),
        ({"devices": True}, "devices: .*True is neither"),
        ({"devices": "two"}, "devices: .*'two' is neither"),
        ({"strategy": "dpp"}, "strategy: Input should be 'auto', 'ddp'"),
        ({"accelerator": "GPU"}, "accelerator: Input should be 'auto', 'cpu', 'gpu' or 'cuda'"),
        ({"seed": -1}, "seed: Input should be greater than or equal to 0"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_runs(setting: dict, message: str) -> None:
    with pytest.raises(SalonError, match=message):
        parse_section(TrainingParams, setting, where="training")


def test_small_networks_take_one_device_in_full_precision() -> None:
    asked = TrainingParams(accelerator="cpu", devices=4, num_nodes=2, strategy="ddp", precision="bf16-mixed")
    alone = trainer.small_network(asked)
    assert count_processes(alone) == 1
    assert (alone.precision, alone.accelerator) == ("32-true", "cpu")


def test_a_process_alone_has_the_whole_batch() -> None:
    rows = torch.randn(4, 2, requires_grad=True)
    assert gather(rows) is rows
    assert own_rows(3) == 3
    assert weight(torch.tensor(7)) == 1.0


def test_the_noise_of_each_process_is_the_rows_of_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    shares = []
    for rank in range(3):
        monkeypatch.setattr("salon.nn.noise.processes", lambda rank=rank: (rank, 3))
        generator = torch.Generator().manual_seed(0)
        shares.append(batch_noise(2, 2, generator=generator, device=torch.device("cpu")))
        assert batch_noise(2, generator=generator, device=torch.device("cpu"), draw=torch.rand).shape == (2,)
    assert torch.equal(torch.stack(shares, dim=1).flatten(0, 1), whole)
    assert [len(range(rank, 4, 3)) for rank in range(3)] == [2, 1, 1]


@pytest.mark.parametrize(
    ("settings", "processes"),
    [
        ({}, 1),
        ({"devices": 2}, 2),
        ({"devices": "2", "num_nodes": 3}, 6),
        ({"devices": "0,1"}, 2),
        ({"devices": -1, "accelerator": "cpu"}, 1),
    ],
)
def test_processes_are_counted_as_lightning_starts_them(settings: dict[str, Any], processes: int) -> None:
    params = TrainingParams(**{"accelerator": "cpu", **settings})
    assert count_processes(params) == processes
    several = "ddp_find_unused_parameters_true" if processes > 1 else "auto"
    assert resolve_strategy(params, objectives=2) == several
    assert resolve_strategy(params, objectives=1) == "auto"
    fsdp = params.model_copy(update={"strategy": "fsdp"})
    assert resolve_strategy(fsdp, objectives=2) == "fsdp"
