"""How long a served picture takes: from the prompt's text to the bytes of a PNG, by the code that serves.

The model is bundled and loaded as MLflow does it, and asked as MLflow asks it. What a network adds is left
out. Every call has another prompt and another seed, so that nothing is answered from memory.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING

from salon.cpus import count_cpus
from salon.devices import device_name, inference_device
from salon.files import read_json
from salon.inference.bundle import write_bundle
from salon.paths import Paths
from salon.registry.candidate import model_sha256

if TYPE_CHECKING:
    from mlflow.pyfunc import PythonModel

BATCH = 16
BATCH_SHARE = 4  # calls with one picture over calls with 16, which vary less and cost more
WARMUP_CALLS = 2  # the first calls allocate


class LatencyMeter:
    """Times a trained method as it is served: by `prompts` in turn, one picture `repeats` times."""

    def __init__(self, paths: Paths, name: str, prompts: Sequence[str], *, repeats: int) -> None:
        self.paths, self.name, self.prompts, self.repeats = paths, name, prompts, repeats
        self._numbers = count()

    def time_own(self) -> dict[str, float]:
        """One picture alone and 16 at a time, at the method's own settings."""
        one = self._time(1, calls=self.repeats)
        many = self._time(BATCH, calls=max(3, self.repeats // BATCH_SHARE))
        return {
            "latency_ms_p50": round(1000 * statistics.median(one), 2),
            "latency_ms_p95": round(1000 * statistics.quantiles(one, n=20)[-1], 2),
            "images_per_second_b16": round(BATCH / statistics.median(many), 2),
        }

    def _time(self, batch: int, *, calls: int) -> list[float]:
        """Seconds per call."""
        import pandas as pd

        durations = []
        for call in range(WARMUP_CALLS + calls):
            numbers = list(islice(self._numbers, batch))
            asked = [self.prompts[number % len(self.prompts)] for number in numbers]
            rows = pd.DataFrame({"prompt": asked, "seed": numbers})
            started = time.perf_counter()
            answer = self._served.predict(None, rows, {})  # ends with bytes, so that a GPU has finished
            if call >= WARMUP_CALLS:
                durations.append(time.perf_counter() - started)
            assert len(answer) == batch
        return durations

    @cached_property
    def _served(self) -> "PythonModel":
        """The model that would be registered."""
        from mlflow.pyfunc import PythonModelContext  # seconds, which whoever does not measure does without

        from salon.inference.mlflow_model import ServedModel

        method = self.paths.selected(self.name)
        config = read_json(method / "config.json")
        digest = model_sha256(self.paths, self.name)
        digests = {"model_sha256": digest, "data_sha256": digest}  # of no picture that is kept
        with tempfile.TemporaryDirectory() as temporary:
            bundle = Path(temporary) / "bundle"
            write_bundle(
                bundle,
                method=method,
                clip=self.paths.clip,
                codec=self.paths.codec(config["config"]["codec"]),
                card="",
                description={"method": self.name, "family": config["family"], **digests},
            )
            model = ServedModel()
            model.load_context(PythonModelContext({"bundle": str(bundle)}, {}))
        return model


def describe_machine() -> dict[str, str | int]:
    """What the seconds were measured on."""
    device = inference_device()
    name = f"cuda: {device_name(device)}" if device.type == "cuda" else "cpu"
    return {"device": name, "cpu_cores": count_cpus()}
