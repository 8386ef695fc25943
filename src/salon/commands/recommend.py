"""Say which method to take under given constraints."""

from salon.errors import SalonError
from salon.judging.alignment import ALL
from salon.judging.metrics import LIKENESS
from salon.judging.record import Gate, Judgement, read_output
from salon.params import Params
from salon.paths import Paths
from salon.report.other_trainings import OtherTrainings
from salon.report.recommend import Constraints, Contender, recommend
from salon.report.recommendation_text import describe_recommendation

NEEDED = (
    "val/alignment/all",
    "test/alignment/all",
    *(f"val/{name}" for name in LIKENESS),
    "memorisation/copy_rate",
    "cost",
)


def run(params: Params, paths: Paths, constraints: Constraints) -> None:
    """Print the ranking with its evidence.

    Raises:
        SalonError: nothing qualifies, a method was not judged, or the sentinels closed the gate.
    """
    gate = Gate.load(paths.sentinels)
    if not gate.passed:
        raise SalonError(f"no method can be recommended: {gate.broken}")
    found = recommend(
        [_read_contender(name, paths) for name in params.methods],
        constraints,
        budget_tolerance=params.budget.tolerance,
        bootstrap_samples=params.evaluate.bootstrap_samples,
        seed=params.evaluate.seed,
        others=OtherTrainings.load(paths.seeds, params),
    )
    print("\n".join(describe_recommendation(found)))


def _read_contender(name: str, paths: Paths) -> Contender:
    return Contender(
        name=name,
        scores=read_output(
            paths.samples(name) / "val.json",
            lambda rows: {row["id"]: bool(row[ALL]) for row in rows},
            stage=f"evaluate@{name}",
        ),
        judgement=Judgement.load(paths.metrics(name), needs=NEEDED),
    )
