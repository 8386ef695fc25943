"""Say which method to take under given constraints."""

from salon.errors import SalonError
from salon.files import NoJsonError, read_json
from salon.judging.alignment import ALL
from salon.judging.statistics import Estimate
from salon.params import Params
from salon.paths import Paths
from salon.report.recommend import Constraints, Contender, Machine, recommend
from salon.report.recommendation_text import advise


def run(params: Params, paths: Paths, constraints: Constraints) -> None:
    """Print the ranking with its evidence.

    Raises:
        SalonError: nothing qualifies, a method was not judged, or the sentinels closed the gate.
    """
    if not paths.sentinels.is_file():
        raise SalonError(f"{paths.sentinels} does not exist: run `dvc repro sentinels`")
    try:
        gate = read_json(paths.sentinels)
        passed, broken = gate["passed"], gate["broken"]
    except (KeyError, TypeError, ValueError):
        raise SalonError(
            f"{paths.sentinels} is not what its stage writes: run `dvc repro --force sentinels`"
        ) from None
    if not passed:
        raise SalonError(f"no method can be recommended: {broken}")
    found = recommend(
        [_read_contender(name, paths) for name in params.methods],
        constraints,
        budget_tolerance=params.budget.tolerance,
        bootstrap_samples=params.evaluate.bootstrap_samples,
        seed=params.evaluate.seed,
    )
    print("\n".join(advise(found)))


def _read_contender(name: str, paths: Paths) -> Contender:
    try:
        metrics = read_json(paths.metrics(name))
        samples = read_json(paths.samples(name) / "val.json")
        copies = metrics.get("memorisation", {}).get("copy_rate")
        return Contender(
            name=name,
            scores={sample["id"]: bool(sample[ALL]) for sample in samples},
            test=Estimate(**metrics["test"]["alignment"][ALL]),
            kid=Estimate(**metrics["val"]["kid"]),
            copy_rate=Estimate(**copies) if copies else None,
            latency_ms=metrics["cost"]["latency_ms_p50"],
            images_per_second=metrics["cost"]["images_per_second_b16"],
            train_minutes=metrics["cost"]["train_minutes"],
            train_flops=metrics["cost"]["train_flops"],
            memory_gb=metrics["cost"].get("peak_memory_gb"),
            machine=Machine(metrics["cost"]["device"], metrics["cost"]["cpu_cores"])
            if "device" in metrics["cost"]
            else None,
        )
    except FileNotFoundError as error:
        raise SalonError(f"{error.filename} does not exist: run `dvc repro evaluate@{name}`") from None
    except NoJsonError as error:
        raise SalonError(
            f"{error.path} is not what its stage writes ({error.reason}): run "
            f"`dvc repro --force evaluate@{name}`"
        ) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # another form
        raise SalonError(
            f"{paths.metrics(name)} is not what its stage writes ({type(error).__name__}: {error}): run "
            f"`dvc repro --force evaluate@{name}`"
        ) from None
