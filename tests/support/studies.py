"""Studies of several trainings with invented figures."""

from collections.abc import Mapping, Sequence

import numpy as np

from salon.judging.alignment import ALL
from salon.judging.metrics import LIKENESS
from salon.judging.record import Judgement, SplitFigures
from salon.judging.statistics import Estimate
from salon.params import Params
from salon.report.seed_study import Made, Replicate, Replicates, SeedStudy

PROMPTS = 400
SPLITS = ("val", "test")
ERROR = 0.005  # of likeness and diversity over prompts, in each training


def around(value: float, *, error: float = ERROR) -> Estimate:
    return Estimate(value, round(value - 1.96 * error, 4), round(value + 1.96 * error, 4), PROMPTS)


def make_replicate(seed: int, right: float, lost: float, *, diversity: float = 0.6) -> Replicate:
    """One training: right on so many prompts, the easier ones first, with so much likeness lost."""
    order = np.random.default_rng(0).permutation(PROMPTS)
    verdict = "".join(str(int(place < round(right * PROMPTS))) for place in order)
    share = Estimate(right, max(0.0, right - 0.02), min(1.0, right + 0.02), PROMPTS)
    metrics = {**dict.fromkeys(LIKENESS, around(lost)), "diversity": around(diversity)}
    splits = {split: SplitFigures({ALL: share}, metrics=dict(metrics)) for split in SPLITS}
    return Replicate(seed, 1.5, Judgement(splits), dict.fromkeys(SPLITS, verdict))


def make_study(
    params: Params,
    trainings: Mapping[str, Sequence[tuple[float, float]]],
    *,
    made: Made | None = None,
    profile: str = "",
    diverged: Mapping[str, Sequence[int]] | None = None,
) -> SeedStudy:
    """Of each method, (all right, likeness lost) of each training."""
    methods = {
        name: Replicates(
            [make_replicate(seed, *figures) for seed, figures in enumerate(each, start=1)],
            list((diverged or {}).get(name, [])),
        )
        for name, each in trainings.items()
    }
    clusters = {split: list(range(PROMPTS)) for split in SPLITS}
    return SeedStudy(profile, made or Made.of(params), "judge", {}, clusters, methods)
