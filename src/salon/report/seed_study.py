"""Every method trained from several seeds, towers and codecs included, as `reports/seeds.json` keeps it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from salon.errors import SalonError
from salon.files import read_json, write_json
from salon.fingerprint import fingerprint
from salon.judging.record import Judgement
from salon.judging.replicates import FEWEST, Trained
from salon.params import Params

CODE = (
    "codecs",
    "data",
    "evaluation",
    "images.py",
    "judging",
    "methods",
    "nn",
    "seeding.py",
    "stages",
    "towers",
    "training",
)


@dataclass(frozen=True)
class Replicate:
    """One full training of a method."""

    seed: int
    minutes: float
    """Of its own training."""
    judgement: Judgement
    """All that the jury found."""
    verdicts: Mapping[str, str]
    """Split -> a 1 for every prompt that is all right, else a 0."""


@dataclass
class Replicates:
    """What came of the trainings of one method."""

    finished: list[Replicate] = field(default_factory=list)
    diverged: list[int] = field(default_factory=list)
    """Seeds whose training failed, or that of a codec it needs."""

    def holds(self, seed: int) -> bool:
        """Whether this training is over, well or not."""
        return seed in self.diverged or any(each.seed == seed for each in self.finished)


@dataclass(frozen=True)
class Made:
    """What the figures were made under: figures are set side by side where this is one and the same."""

    conditions: str
    """Of data, budget and jury, as digits."""
    settings: str
    """Of these and of the settings of towers, codecs and methods."""
    code: str

    @classmethod
    def of(cls, params: Params) -> "Made":
        """What training with these settings makes now; seeds of trainings are left out."""
        conditions: dict[str, Any] = {
            "seed": params.seed,
            "ingest": params.ingest.model_dump(mode="json", exclude={"path", "rows_per_shard"}),
            "scorer": params.scorer.model_dump(),
            "evaluate": params.evaluate.model_dump(include={"pictures", "seed"}),
            "budget": params.budget.train_flops,
        }
        trained = [
            conditions,
            params.clip.model_dump(),
            params.codecs,
            params.methods,
            params.select.model_dump(),
            params.training.precision,
        ]
        return cls(fingerprint(conditions), fingerprint(trained), fingerprint(None, sources=CODE))


@dataclass
class SeedStudy:
    """How far another training moves a figure; the data and the jury are the same throughout."""

    profile: str
    """File of `profiles/` that was laid over `params.yaml`; empty where none was."""
    made: Made
    judge: str = ""
    """Digits of the data and the judges' weights."""
    prompts: dict[str, str] = field(default_factory=dict)
    """Split -> digits of its prompts."""
    clusters: dict[str, list[int]] = field(default_factory=dict)
    """Split -> which of its prompts stand or fall together."""
    methods: dict[str, Replicates] = field(default_factory=dict)

    @property
    def seeds(self) -> list[int]:
        """Of all trainings that are over."""
        found = {each.seed for one in self.methods.values() for each in one.finished}
        return sorted(found.union(*(one.diverged for one in self.methods.values())))

    @property
    def ranked(self) -> list[str]:
        """Methods with enough trainings to be spoken of."""
        return [name for name, one in self.methods.items() if len(one.finished) >= FEWEST]

    def figures(self, name: str) -> set[str]:
        """Every figure that all trainings of a method have, as `test/likeness`."""
        known = [each.judgement.estimates() for each in self.methods[name].finished]
        return {"/".join(key) for key in set.intersection(*map(set, known))} if known else set()

    def trained(self, name: str, figure: str) -> Trained:
        """One figure of a method, by training."""
        finished = self.methods[name].finished
        of_each = [{"/".join(key): value for key, value in r.judgement.estimates().items()} for r in finished]
        split, mean, scores = figure.removesuffix("/alignment/all"), figure.endswith("/alignment/all"), None
        if mean:
            scores = np.array(
                [[int(mark) for mark in each.verdicts[split]] for each in finished], dtype=float
            )
        return Trained([values[figure] for values in of_each], scores)

    def save(self, path: Path) -> None:
        """Write it, whole or not at all."""
        raw = asdict(self)
        for name, one in self.methods.items():
            raw["methods"][name]["finished"] = [
                {**vars(each), "judgement": each.judgement.to_json()} for each in one.finished
            ]
        write_json(path, raw)

    @classmethod
    def load(cls, path: Path) -> "SeedStudy | None":
        """Read what `save` wrote; `None` until somebody trained several times.

        Raises:
            SalonError: the file is damaged, or of a release that kept other figures.
        """
        if not path.is_file():
            return None
        raw = read_json(path)
        try:
            methods = {
                name: Replicates(
                    [
                        Replicate(**each | {"judgement": Judgement.from_json(each["judgement"])})
                        for each in one["finished"]
                    ],
                    one["diverged"],
                )
                for name, one in raw["methods"].items()
            }
            return cls(**raw | {"made": Made(**raw["made"]), "methods": methods})
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise SalonError(
                f"{path} is not what `salon seeds` writes now ({type(error).__name__}: {error}): delete it, "
                "and run `salon seeds` again where its figures are wanted"
            ) from None
