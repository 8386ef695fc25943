"""What real pictures are to the jury, worked out once: fidelity's reference, and the copy test's null.

Every method is judged against the same of it, in a process of its own. It is therefore kept in the
workspace's scratch folder, under a digest of the rows, the settings and the code that it follows from.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from salon.data.dataset import Dataset
from salon.errors import SalonError
from salon.fingerprint import fingerprint
from salon.judging.features import FeatureExtractor
from salon.judging.memorisation import FALSE_ALARMS, CopyTest, distinct_rows
from salon.params import EvaluateParams
from salon.paths import Paths
from salon.weights import load_tensors, save_tensors

REFERENCE = 1000  # real pictures that fidelity compares with; their features cost 5 ms each
SOURCES = (
    "data/dataset.py",
    "images.py",
    *(f"judging/{name}.py" for name in ("reference", "features", "memorisation")),
)


@dataclass(frozen=True)
class Reference:
    """Held-out real pictures that are no prompts, as fidelity and the copy test need them."""

    features: Float[Tensor, "m d"]
    copies: CopyTest

    @classmethod
    def open(
        cls, paths: Paths, settings: EvaluateParams, *, data: Dataset, extractor: FeatureExtractor
    ) -> "Reference":
        """Read what an earlier process worked out, or work it out.

        Raises:
            SalonError: too few pictures are held out beside the prompts.
        """
        device = next(extractor.parameters()).device.type  # another rounds features otherwise
        key = fingerprint([settings.pictures, settings.seed, device], files=[paths.interim], sources=SOURCES)
        file = paths.scratch / "reference" / f"{key}.safetensors"
        if file.is_file():
            tensors = load_tensors(file)
            return cls(tensors.pop("reference"), CopyTest.from_tensors(tensors))
        test, val = data["test"], data["val"]
        # with several captions a picture stands in several rows, prompts and others
        prompts, others = test.images[: settings.pictures], torch.cat([test.images, val.images])
        held_out = others[distinct_rows(others, without=prompts)]
        if len(held_out) < 1 / FALSE_ALARMS:
            raise SalonError(
                f"{len(held_out)} real pictures of val and test are no prompts, {1 / FALSE_ALARMS:.0f} are "
                "needed to know what is no copy: lower evaluate.pictures or hold out more pictures"
            )
        copies = CopyTest(data["train"].images, held_out, seed=settings.seed)
        found = cls(extractor.extract(held_out[:REFERENCE]), copies)
        save_tensors(file, {"reference": found.features, **copies.to_tensors()})
        for stale in set(file.parent.glob("*.safetensors")) - {file}:  # of other rows or other code
            stale.unlink(missing_ok=True)
        return found
