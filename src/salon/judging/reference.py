"""What real pictures are to the jury, worked out once: fidelity's reference, and the copy test's null.

Every method is judged against the same of it, in a process of its own. It is therefore kept in the
workspace's scratch folder, under a digest of the rows, the settings and the code that it follows from.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from salon.data.dataset import Dataset
from salon.errors import SalonError
from salon.fingerprint import fingerprint
from salon.judging.alike import wanted
from salon.judging.features import Extractors
from salon.judging.fidelity import blends, kid
from salon.judging.memorisation import distinct_rows
from salon.judging.views import VIEWS, View
from salon.params import EvaluateParams
from salon.paths import Paths
from salon.weights import load_tensors, save_tensors

LEAST = 100  # held-out pictures beside the prompts
REFERENCE = 1000  # real pictures that fidelity compares with; their features cost 5 ms each
SMOOTHING_SEED = 1  # of the reference; the pictures that are judged have another
SOURCES = (
    "data/dataset.py",
    "images.py",
    *(f"judging/{name}.py" for name in ("reference", "features", "fidelity", "memorisation", "views")),
)


@dataclass(frozen=True)
class Reference:
    """Held-out real pictures that are no prompts, as fidelity and the copy test need them."""

    features: Mapping[View, Float[Tensor, "m d"]]
    damage: Mapping[View, float]
    """KID of blends of two real pictures of `test`."""
    wanted: list[Mapping[str, str]]
    """What each picture of the reference shows."""

    @classmethod
    def open(
        cls, paths: Paths, settings: EvaluateParams, *, data: Dataset, extractors: Extractors
    ) -> "Reference":
        """Read what an earlier process worked out, or work it out.

        Raises:
            SalonError: too few pictures are held out beside the prompts.
        """
        device = extractors.device.type  # another rounds features otherwise
        key = fingerprint([settings.pictures, settings.seed, device], files=[paths.interim], sources=SOURCES)
        file = paths.scratch / "reference" / f"{key}.safetensors"
        if not file.is_file():
            save_tensors(file, _work_out(settings, data, extractors))
            for stale in set(file.parent.glob("*.safetensors")) - {file}:  # of other rows or other code
                stale.unlink(missing_ok=True)
        tensors = load_tensors(file)
        shown = [*wanted(data["test"]), *wanted(data["val"])]
        return cls(
            {view: tensors.pop(str(view)) for view in VIEWS},
            {view: float(tensors.pop(f"{view} damage")) for view in VIEWS},
            [shown[row] for row in tensors.pop("reference").tolist()],
        )


def _work_out(settings: EvaluateParams, data: Dataset, extractors: Extractors) -> dict[str, Tensor]:
    test, val = data["test"], data["val"]
    # with several captions a picture stands in several rows, prompts and others
    prompts, others = test.images[: settings.pictures], torch.cat([test.images, val.images])
    rows = distinct_rows(others, without=prompts)
    if len(rows) < LEAST:
        raise SalonError(
            f"{len(rows)} real pictures of val and test are no prompts, {LEAST} are needed to know what real "
            "pictures are like: lower evaluate.pictures or hold out more pictures"
        )
    found = {"reference": rows[:REFERENCE]}
    for view in VIEWS:
        real = extractors.extract(others[rows[:REFERENCE]], view, seed=SMOOTHING_SEED)
        damaged = extractors.extract(blends(prompts), view, seed=settings.seed)
        damage = kid(damaged, real, bootstrap_samples=1, rng=np.random.default_rng(settings.seed))
        found |= {str(view): real, f"{view} damage": torch.tensor(damage.value, dtype=torch.float64)}
    return found
