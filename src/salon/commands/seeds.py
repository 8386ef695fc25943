"""How far does another seed move *all right* on `test`? Methods are trained anew, not what they share."""

import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import nan

import yaml

from salon.commands.smoke import apply_profile, clone_environment, clone_folder, make_clone, repro
from salon.errors import SalonError
from salon.files import read_json, write_json, write_text
from salon.judging.alignment import ALL
from salon.judging.record import Judgement
from salon.methods.base import read_config
from salon.params import load_params
from salon.paths import Paths
from salon.report.figures import SeedFigures, SeedStudy

SEED_PROFILE = "training-seed"  # exists in the clone alone


def run(paths: Paths, *, profile: str, count: int, methods: Sequence[str] | None = None) -> None:
    """Write `reports/seeds.json`, anew after each training, and print a table.

    Raises:
        SalonError: unknown method or profile, too few seeds, or a stage before training failed.
    """
    if count < 2:
        raise SalonError(f"--seeds {count}: two trainings at least show a spread")
    with clone_folder(None) as folder:
        clone = make_clone(paths, folder)
        apply_profile(clone, profile)
        params = load_params(clone.params)
        names = list(methods or params.methods)
        seeds = [params.seed + offset for offset in range(count)]
        codecs = {read_config(name, params.method(name))[1].codec for name in names} & set(params.codecs)
        repro(clone, "sentinels", "train_clip", *(f"codec@{codec}" for codec in sorted(codecs)))
        found = {name: SeedFigures() for name in names}
        for seed in seeds:
            write_text(clone.profiles / f"{SEED_PROFILE}.yaml", yaml.safe_dump({"training": {"seed": seed}}))
            apply_profile(clone, SEED_PROFILE)
            for name in names:
                _train_once(clone, name, found[name])
                write_json(paths.seeds, asdict(SeedStudy(profile, seeds, found)))
    print("\n".join(table(found)))


def table(found: Mapping[str, SeedFigures]) -> list[str]:
    """Mean, spread and range of each method, one line each."""
    head = f"{'all right on test':16} {'mean':>7} {'spread':>7} {'lowest':>7} {'highest':>7} minutes diverged"
    lines = ["", head]
    for name, figures in found.items():
        shares, minutes = figures.all_right or [nan], statistics.mean(figures.minutes or [nan])
        spread = statistics.stdev(shares) if len(shares) > 1 else nan
        numbers = (statistics.mean(shares), spread, min(shares), max(shares))
        percentages = " ".join(f"{number:7.1%}" for number in numbers)
        lines.append(f"{name:16} {percentages} {minutes:7.2f} {figures.diverged:8}")
    return lines


def _train_once(clone: Paths, name: str, figures: SeedFigures) -> None:
    """Train and judge with the seed that is set; what fails is counted and does not stop the others."""
    if not _succeeds(clone, "train", name):
        print(f"{name}: this training failed and counts as diverged", file=sys.stderr)
        figures.diverged += 1
        return
    if not (_succeeds(clone, "select", name) and _succeeds(clone, "evaluate", name)):
        raise SalonError(f"{name} was trained and could not be judged: see the output above")
    judgement = Judgement.load(clone.metrics(name), needs=("test/alignment/all",))
    figures.all_right.append(judgement.splits["test"].all_right.value)
    # prompt by prompt, so that seeds and prompts can be resampled together
    samples = read_json(clone.samples(name) / "test.json")
    figures.verdicts.append("".join(str(int(sample[ALL])) for sample in samples))
    ledger = read_json(clone.method(name) / "training.json")
    figures.minutes.append(round(ledger["own"]["train_minutes"], 3))


def _succeeds(clone: Paths, stage: str, name: str) -> bool:
    command = [sys.executable, "-m", "salon", stage, name]
    environment = clone_environment(clone.root)
    return not subprocess.run(command, cwd=clone.root, env=environment, check=False).returncode
