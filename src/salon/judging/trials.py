"""What settings of a sampler are judged by: likeness, alignment and diversity, on prompts of `val` alone.

Real pictures are those of `val` that are no prompts, and training pictures of what prompts ask for. Neither
`test` nor `novel` is read: what is chosen by them could not be judged by them.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from salon.data.dataset import Dataset
from salon.errors import SalonError
from salon.fingerprint import fingerprint
from salon.judging.alignment import ALL
from salon.judging.alike import Alike, wanted
from salon.judging.diversity import spread_ratio, thumbnail_distances
from salon.judging.features import FeatureExtractor
from salon.judging.fidelity import blends, kid, kid_terms
from salon.judging.memorisation import distinct_rows
from salon.judging.scorers import Scorers
from salon.judging.statistics import Estimate, bootstrap_mean
from salon.judging.views import SMOOTHED
from salon.params import EvaluateParams
from salon.paths import Paths
from salon.weights import load_tensors, save_tensors

VAL = "val"
SPLITS = ("train", VAL)
"""What may be read."""
FEWEST = 2  # pictures of either side that a distance needs
TWICE = 0.5  # share of the prompts that are drawn a second time, for diversity
SMOOTHING_SEED = 1  # of real pictures; drawn ones have another
SOURCES = (
    "data/dataset.py",
    "images.py",
    *(
        f"judging/{name}.py"
        for name in ("alike", "diversity", "features", "fidelity", "memorisation", "trials")
    ),
)


@dataclass(frozen=True)
class TrialFigures:
    """What one trial's pictures are like."""

    likeness: Estimate
    alignment: Estimate
    diversity: Estimate | None
    terms: Float[np.ndarray, " n"]
    """What each picture contributes to the likeness lost, so that trials are compared prompt by prompt."""


class TrialJury(Scorers):
    """The judges of trials, set up once per method."""

    def __init__(
        self,
        data: Dataset,
        paths: Paths,
        settings: EvaluateParams,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        """
        Args:
            settings: `pictures` are the prompts, at most half of `val`.

        Raises:
            ForbiddenSplitError: it would read more than `SPLITS`.
            SalonError: `val` is too small.
        """
        super().__init__(data.only(*SPLITS), paths, settings, device=device)
        val = self.data[VAL]
        count = min(settings.pictures, len(val) // 2)
        if count < FEWEST:
            raise SalonError(f"val holds {len(val)} pictures: settings are chosen on {2 * FEWEST} at least")
        self.prompts = val.take(range(count))
        self._extractor = FeatureExtractor(SMOOTHED.network).to(device)
        real = self._real(paths.scratch / "selection", torch.device(device))
        self._reference, self._damage = real["reference"], float(real["damage"])
        self._real_distances = real["distances"].numpy()
        self.twice = self.prompts.take(real["twice"].tolist())
        """The prompts that are drawn a second time; none where real pictures of the same are missing."""
        self._twice_rows = real["twice"].tolist()
        labels = self.clusters([*wanted(self.prompts), *(wanted(val)[row] for row in real["rows"])], VAL)
        assert labels is not None
        self._drawings = labels[:count], labels[count:]

    def look(self, images: UInt8[Tensor, "n 3 h w"], again: UInt8[Tensor, "t 3 h w"] | None) -> TrialFigures:
        """Judge one picture of each prompt, and a second one of each of `twice`."""
        features = self._extractor.extract(images, smoothing_seed=self.settings.seed)
        found = kid(
            features,
            self._reference,
            drawings=self._drawings,
            bootstrap_samples=self.settings.bootstrap_samples,
            rng=np.random.default_rng(self.settings.seed),
        )
        scaled = {key: getattr(found, key) / self._damage for key in ("value", "low", "high")}
        diversity = None
        if again is not None:
            distances = thumbnail_distances(torch.stack([images[self._twice_rows], again], dim=1))
            clusters = self.clusters(wanted(self.twice), VAL)
            diversity = spread_ratio(distances, self._real_distances, clusters=clusters, **self.bootstrap)
        return TrialFigures(
            likeness=replace(found, **scaled),
            alignment=self.align(self.judge(self.prompts, images), VAL)[ALL],
            diversity=diversity,
            terms=kid_terms(features, self._reference) / self._damage,
        )

    def difference(self, one: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"]) -> Estimate:
        """Likeness that `one` loses beyond `other`, by their terms, over the drawings of the prompts."""
        rng, clusters = np.random.default_rng(self.settings.seed), self._drawings[0]
        return bootstrap_mean(
            one - other, samples=self.settings.bootstrap_samples, rng=rng, clusters=clusters
        )

    def _real(self, folder: Path, device: torch.device) -> dict[str, Tensor]:
        """What real pictures are like, worked out once for all methods."""
        key = fingerprint(
            [len(self.prompts), self.settings.seed, device.type], files=self.data.shards(), sources=SOURCES
        )
        file = folder / f"real-{key}.safetensors"
        if not file.is_file():
            save_tensors(file, self._work_out())
            for stale in set(file.parent.glob("real-*.safetensors")) - {file}:  # of other rows or other code
                stale.unlink(missing_ok=True)
        return load_tensors(file)

    def _work_out(self) -> dict[str, Tensor]:
        val, prompts = self.data[VAL], self.prompts
        rows = distinct_rows(val.images, without=prompts.images)
        if len(rows) < FEWEST:
            raise SalonError(
                f"val holds {len(rows)} pictures beside the prompts of select: {FEWEST} are needed"
            )
        reference = self._extractor.extract(val.images[rows], smoothing_seed=SMOOTHING_SEED)
        damaged = self._extractor.extract(blends(prompts.images), smoothing_seed=self.settings.seed)
        damage = kid(damaged, reference, bootstrap_samples=1, rng=np.random.default_rng(0)).value
        alike = Alike(self.data["train"])
        known = [row for row in range(len(prompts)) if alike.rows(prompts, row)]
        twice = known[: round(TWICE * len(prompts))]
        real = torch.stack([prompts.images, alike.further(prompts, 1)], dim=1)[twice]
        distances = thumbnail_distances(real) if twice else np.zeros(0)
        return {
            "rows": rows,
            "reference": reference,
            "damage": torch.tensor(damage, dtype=torch.float64),
            "twice": torch.tensor(twice, dtype=torch.long),
            "distances": torch.from_numpy(distances),
        }
