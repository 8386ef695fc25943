"""Full trainings from several seeds, towers and codecs included: what is luck, and what is the method?

Data, judges and prompts stay as they are. Every judged training is written down at once, so that what was
killed goes on with those that are missing.
"""

import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

import yaml

from salon.commands.smoke import apply_profile, clone_environment, make_clone, repro
from salon.errors import SalonError
from salon.files import lines_sha256, read_json, whole_folder, write_text
from salon.fingerprint import fingerprint
from salon.judging.alignment import ALL, labels_of
from salon.judging.record import Judgement
from salon.methods.base import read_config
from salon.params import Params, load_params
from salon.params.profiles import lay_over
from salon.paths import Paths
from salon.report.replicates_page import replicates_page, table
from salon.report.seed_study import Made, Replicate, Replicates, SeedStudy

SEED_PROFILE = "replicate"  # exists in the clone alone
NEEDED = ("val/alignment/all", "test/alignment/all", "test/likeness", "test/likeness_again", "cost")
ENDED = {-signal.SIGTERM, -signal.SIGINT, -signal.SIGKILL, 128 + signal.SIGTERM, 128 + signal.SIGINT}


def run(
    paths: Paths,
    *,
    profile: str | None,
    count: int,
    methods: Sequence[str] | None = None,
    page: Path | None = None,
) -> None:
    """Write `reports/seeds.json`, anew after each training, and print a table.

    Args:
        profile: Laid over `params.yaml` first, if it is to be another than the workspace's.
        page: Markdown file for the tables and what can and cannot be told apart.

    Raises:
        SalonError: unknown method or profile, too few trainings, a study of something else is kept, or what
            all trainings share failed.
    """
    if count < 2:
        raise SalonError(f"--seeds {count}: two trainings at least show a spread")
    params = lay_over(paths, profile)[1] if profile else load_params(paths.params)
    names = list(methods or params.methods)
    codecs = {name: _codecs_of(params, name) for name in names}
    made = Made.of(params)
    study = _open_study(paths, profile or "", made)
    for name in names:
        study.methods.setdefault(name, Replicates())
    seeds = [params.training_seed + offset for offset in range(count)]
    if any(not study.methods[name].holds(seed) for name in names for seed in seeds):
        _refuse(paths, study, made, "code")
        with _Ending():
            clone = _open_clone(paths, study, params)
            if profile:
                apply_profile(clone, profile)
            trusted = False
            for number, seed in enumerate(seeds):
                missing = {name: codecs[name] for name in names if not study.methods[name].holds(seed)}
                if missing:
                    print(f"training {number + 1} of {count}, seed {seed}: {', '.join(missing)}", flush=True)
                    failed = _train_shared(clone, study, seed, missing, paths.seeds)
                    if not (failed or trusted):
                        repro(clone, "sentinels")  # of data and judges, which stay: once says it
                        trusted = True
                    _train_methods(clone, study, seed, missing, failed, paths.seeds)
        shutil.rmtree(paths.scratch / "seeds", ignore_errors=True)
    print("\n".join(table(study)))
    if study.made.code != made.code:
        print("These trainings are of another state of the code.")
    if page:
        write_text(page, replicates_page(study))
        print(f"page: {page}")


def _codecs_of(params: Params, name: str) -> list[str]:
    """Trained codecs that a method needs, in the order of training."""
    codec, found = read_config(name, params.method(name))[1].codec, []
    while codec in params.codecs:
        found.append(codec)
        codec = params.codec(codec).get("start", "")
    return found[::-1]


def _open_study(paths: Paths, profile: str, made: Made) -> SeedStudy:
    """What was begun, if it is of the same settings."""
    study = SeedStudy.load(paths.seeds) or SeedStudy(profile, made)
    _refuse(paths, study, made, "conditions", "settings")
    return study


def _refuse(paths: Paths, study: SeedStudy, made: Made, *parts: str) -> None:
    """Let no trainings be set beside others that differ in one of these parts."""
    for part in parts:
        if getattr(study.made, part) != getattr(made, part):
            raise SalonError(
                f"{paths.seeds} holds trainings under other {part}, which cannot be set beside new ones: "
                "move it away to begin anew"
            )


def _open_clone(paths: Paths, study: SeedStudy, params: Params) -> Paths:
    """A clone of the workspace, or the one in which an interrupted study was at work."""
    made = study.made
    folder = paths.scratch / "seeds" / fingerprint([vars(made), params.ingest.path])
    if not folder.is_dir():
        shutil.rmtree(folder.parent, ignore_errors=True)
        with whole_folder(folder) as part:
            make_clone(paths, part)
    return Paths(folder)


def _train_shared(
    clone: Paths, study: SeedStudy, seed: int, missing: Mapping[str, Sequence[str]], file: Path
) -> set[str]:
    """Train towers and codecs with one seed; the codecs that failed."""
    settings = {"training": {"seed": seed}}
    write_text(clone.profiles / f"{SEED_PROFILE}.yaml", yaml.safe_dump(settings))
    apply_profile(clone, SEED_PROFILE)
    repro(clone, "scorer", "train_clip")
    judge = fingerprint(None, files=[clone.interim, clone.scorer, clone.retriever, clone.regressor])
    if study.judge not in ("", judge):
        raise SalonError(
            f"{file} holds trainings on other data or under other judges, as another machine makes them: "
            "move it away to begin anew"
        )
    study.judge = judge
    failed: set[str] = set()
    for codec in dict.fromkeys(codec for codecs in missing.values() for codec in codecs):
        try:
            repro(clone, f"codec@{codec}")
        except SalonError as error:
            print(f"{codec}: {error}", file=sys.stderr)
            failed.add(codec)
    return failed


def _train_methods(
    clone: Paths,
    study: SeedStudy,
    seed: int,
    missing: Mapping[str, Sequence[str]],
    failed: Set[str],
    file: Path,
) -> None:
    """Train and judge what is missing of one seed; what fails is counted and does not stop the others."""
    for name, codecs in missing.items():
        if failed & set(codecs) or not _succeeds(clone, "train", name):
            print(f"{name}: the training with seed {seed} failed and counts as diverged", file=sys.stderr)
            study.methods[name].diverged.append(seed)
        else:
            study.methods[name].finished.append(_judge(clone, study, name, seed))
        study.save(file)


def _judge(clone: Paths, study: SeedStudy, name: str, seed: int) -> Replicate:
    """What the jury says of one training."""
    if not (_succeeds(clone, "select", name) and _succeeds(clone, "evaluate", name)):
        raise SalonError(f"{name} was trained and could not be judged: see the output above")
    judgement = Judgement.load(clone.metrics(name), needs=NEEDED)
    verdicts = {}
    for split in judgement.splits:
        rows = read_json(clone.samples(name) / f"{split.replace('/', '-')}.json")
        verdicts[split] = "".join(str(int(row[ALL])) for row in rows)
        asked = lines_sha256(row["id"] for row in rows)[:16]
        if study.prompts.setdefault(split, asked) != asked:
            raise SalonError(
                f"{name} with seed {seed} was judged on other prompts of {split} than the others"
            )
        study.clusters[split] = [int(label) for label in labels_of([row["wanted"] for row in rows], split)]
    ledger = read_json(clone.method(name) / "training.json")
    return Replicate(seed, round(ledger["own"]["train_minutes"], 3), judgement, verdicts)


def _succeeds(clone: Paths, stage: str, name: str) -> bool:
    """Whether a stage did what it should; ended from outside, it says nothing of the training."""
    command = [sys.executable, "-m", "salon", stage, name]
    code = subprocess.run(command, cwd=clone.root, env=clone_environment(clone.root), check=False).returncode
    if code in ENDED:
        raise SalonError(f"{stage} {name} was ended from outside: run the same command again to go on")
    return not code


class _Ending:
    """SIGTERM leaves the block as Ctrl-C does, so that the stage under way ends with it."""

    def __enter__(self) -> None:
        self.before = signal.signal(signal.SIGTERM, signal.default_int_handler)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self.before)
