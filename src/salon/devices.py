"""Where things run: a training where `params.yaml` asks, drawing and judging on what this machine has."""

from typing import Any

import torch

from salon.errors import SalonError
from salon.params import TrainingParams


def resolve_precision(precision: str, *, accelerator: str = "auto") -> Any:
    """`auto` is bf16 autocast on GPUs that have it, else fp32."""
    if precision != "auto":
        return precision
    has_bf16 = has_gpu(accelerator) and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if has_bf16 else "32-true"


def resolve_devices(devices: int | str) -> int | str:
    """`auto` is one: a GPU, which replays its steps as several cannot, or a CPU process with all cores."""
    return 1 if devices == "auto" else devices


def resolve_strategy(settings: TrainingParams, *, objectives: int) -> str:
    """`auto` and `ddp` know that one of several objectives leaves the others' networks without gradient."""
    if settings.strategy not in ("auto", "ddp") or objectives == 1 or count_processes(settings) == 1:
        return settings.strategy
    return "ddp_find_unused_parameters_true"


def count_processes(settings: TrainingParams) -> int:
    """Processes that share a training: one per device."""
    devices = str(resolve_devices(settings.devices))
    if devices == "-1":
        each = torch.cuda.device_count() if has_gpu(settings.accelerator) else 1
    else:
        each = len(devices.strip(",").split(",")) if "," in devices else int(devices)
    return each * settings.num_nodes


def single_device(settings: TrainingParams) -> torch.device:
    """Where the small networks that no method owns are trained: one GPU if there is one, else the CPU."""
    return torch.device("cuda" if has_gpu(settings.accelerator) else "cpu")


def has_gpu(accelerator: str) -> bool:
    """Whether this Lightning accelerator is a CUDA GPU on this machine.

    Raises:
        SalonError: a GPU is asked for, and torch sees none.
    """
    if accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise SalonError(
            f"training.accelerator is {accelerator}, and torch {torch.__version__} sees no GPU: install a "
            "CUDA build that the driver knows (make env TORCH_PIP_ARGS=...), or set accelerator: auto"
        )
    return accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()


def device_name(device: torch.device) -> str:
    """As the ledger tells it: the GPU's model, or `cpu`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def inference_device() -> torch.device:
    """Where pictures are drawn and judged: the first GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
