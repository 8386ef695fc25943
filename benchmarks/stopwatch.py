"""Timing side by side: repetitions interleaved, so that a machine that gets slower gets slower for all."""

import math
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

Run = Callable[[], object]
WARMUP_CALLS = 3
PEAK_SIDES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192)}  # of the square matrices


@dataclass(frozen=True)
class Spread:
    """A median and its quartiles."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
        return cls(low, median, high)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def finish(device: torch.device) -> None:
    """Wait for what the device was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(run: Run, *, calls: int, device: torch.device) -> float:
    """Seconds per call, over `calls` of them."""
    finish(device)
    started = time.perf_counter()
    for _ in range(calls):
        run()
    finish(device)
    return (time.perf_counter() - started) / calls


def interleave(
    runs: Mapping[str, Run], *, repeats: int, device: torch.device, min_seconds: float = 0.2
) -> dict[str, list[float]]:
    """Seconds per call of each, `repeats` times; each repetition times all of them, in turning order.

    Args:
        min_seconds: Each timing repeats the call until it takes about as long.
    """
    calls = {}
    for name, run in runs.items():
        for _ in range(min(WARMUP_CALLS, repeats)):
            once = seconds_of(run, calls=1, device=device)
        calls[name] = max(1, math.ceil(min_seconds / once))
    names = list(runs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            seconds[name].append(seconds_of(runs[name], calls=calls[name], device=device))
    return seconds


def ratio(slow: list[float], fast: list[float]) -> Spread:
    """How many times as fast the second is, repetition by repetition."""
    return Spread.of([a / b for a, b in zip(slow, fast, strict=True)])


def fastest(runs: Mapping[str, Run], *, device: torch.device) -> str:
    """Name of the one that is fastest in a short trial."""
    seconds = interleave(runs, repeats=3, device=device, min_seconds=0.05)
    return min(seconds, key=lambda name: statistics.median(seconds[name]))


def count_flops(run: Run) -> int:
    """Counted FLOPs of one call: matrix products, convolutions and attention."""
    # the counter does not know the fused attention of CPUs; spelled out it is two matrix products
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


def matmul_peak(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the best of some square matrix products."""
    best = 0.0
    for side in PEAK_SIDES[device.type]:
        a, b = torch.randn(2, side, side, device=device, dtype=dtype)
        run = lambda a=a, b=b: a @ b  # noqa: E731
        calls = max(1, round(5e9 / (2 * side**3))) if device.type == "cpu" else 50
        seconds_of(run, calls=calls, device=device)
        best = max(best, max(2 * side**3 / seconds_of(run, calls=calls, device=device) for _ in range(3)))
    return best


def describe_machine(device: torch.device) -> str:
    """Device, threads and versions."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    model = platform.processor() or platform.machine()
    try:
        with Path("/proc/cpuinfo").open() as lines:
            model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, {torch.get_num_threads()} threads, torch {torch.__version__}"
