"""dvc.yaml against the code: a stage reruns when the code that makes its result changes, and for no other."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_layout import PACKAGE, REPOSITORY, SOURCES, module_name

from salon.paths import Paths

STAGES: dict[str, dict[str, Any]] = {
    name: stage.get("do", stage)
    for name, stage in yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"].items()
}

# Imported, and left out on purpose. Everywhere: what reads settings and files, or only records what was done.
EVERYWHERE = (
    "salon.cpus",
    "salon.devices",
    "salon.errors",
    "salon.families",
    "salon.files",
    "salon.fingerprint",
    "salon.params",
    "salon.paths",
    "salon.templates",
    "salon.tracking",
    "salon.weights",
)
# Of the rows' form nothing changes but by ingesting them anew.
ROWS = ("salon.data.schema", "salon.data.shards")
# Scenes that are composed again are looked at, and no near-duplicate is searched for among them.
HASHES = tuple(f"salon.data.ingest.{name}" for name in ("images", "near_pairs", "quarantine"))
# Towers and codecs are read as models, and a model is made anew when their code changes.
MODELS = ("salon.codecs", "salon.methods", "salon.nn", "salon.towers")
LEFT_OUT = {
    "ingest": (),
    "validate": ("salon.stages",),  # the stages it borrows from are named
    # a verdict has a name and an interval; neither is trained
    "scorer": (*ROWS, "salon.judging.alignment", "salon.judging.statistics", "salon.seeding"),
    # how a loaded network multiplies: within `batch_invariant` alone another way, and never in training
    "train_clip": (*ROWS, "salon.nn.products", "salon.seeding"),
    # and how its figures are kept
    "codec": (
        *ROWS,
        "salon.judging.alignment",
        "salon.judging.record",
        "salon.judging.statistics",
        "salon.nn.products",
        "salon.seeding",
    ),
    "train": (*ROWS, "salon.towers"),
    # how words are split, and what a world's captions look like: the judges and the rows hold both
    "sentinels": (*ROWS, *HASHES, "salon.codecs", "salon.nn", "salon.towers.tokenizer"),
    "select": (*ROWS, *MODELS, "salon.data.ingest.worlds.scenes"),
    # what wraps a drawn picture into an answer costs nothing that is timed
    "evaluate": (*ROWS, *HASHES, *MODELS, "salon.inference", "salon.registry"),
    "compare": (*ROWS, "salon.data.ingest.worlds.scenes"),
    # the whole jury is imported for a contest with a champion: when it changes, so do the figures listed
    "register": (
        *MODELS,
        "salon.data",
        "salon.evaluation",
        "salon.images",
        "salon.judging",
        "salon.seeding",
    ),
}
# A family, or a source, is imported by its name.
BY_NAME = {
    f"salon.{room}.base": {
        f"salon.{room}.{path.stem}" for path in PACKAGE.joinpath(*room.split(".")).glob("*.py")
    }
    for room in ("codecs", "methods", "data.ingest.sources", "data.ingest.worlds")
}


def imported_by(stage: str) -> set[str]:
    """Modules that a stage's code imports, directly or not."""
    found: set[str] = set()
    queue = [f"salon.stages.{stage}"]
    while queue:
        module = queue.pop()
        if module in found or module not in SOURCES:
            continue
        found.add(module)
        queue += [
            known
            for target in SOURCES[module] | BY_NAME.get(module, set())
            for known in (target, target.rpartition(".")[0])
        ]
    return found


def sources_of(stage: str) -> list[str]:
    """Sources of salon that `deps` names."""
    return [str(path) for path in STAGES[stage]["deps"] if str(path).startswith("src/salon/")]


def modules_of(dependency: str) -> set[str]:
    """Modules that a dependency names, a folder standing for all that lies in it."""
    path = PACKAGE / re.sub(r"\$\{item\.\w+\}", "*", dependency).removeprefix("src/salon/")
    matches = list(path.parent.glob(path.name))
    assert matches, f"{dependency} does not exist"
    files = [file for match in matches for file in ([match] if match.is_file() else match.rglob("*.py"))]
    return {module_name(file) for file in files}


def listed_by(stage: str) -> set[str]:
    """Modules that `deps` names."""
    return set().union(*map(modules_of, sources_of(stage)))


def lies_in(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


@pytest.mark.parametrize("stage", STAGES)
def test_what_a_stage_imports_is_listed_or_left_out_on_purpose(stage: str) -> None:
    left_out = EVERYWHERE + LEFT_OUT[stage]
    missing = {
        module
        for module in imported_by(stage) - listed_by(stage) - {"salon"}
        if not lies_in(module, left_out)
    }
    assert missing == set()


@pytest.mark.parametrize(
    ("stage", "dependency"), [(stage, name) for stage in STAGES for name in sources_of(stage)]
)
def test_what_is_listed_is_imported(stage: str, dependency: str) -> None:
    if dependency.endswith(".html"):
        dependency = dependency.replace("templates/", "").replace(".html", ".py")  # its page's module
    assert modules_of(dependency) & imported_by(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_left_out_is_imported(stage: str) -> None:
    modules = imported_by(stage)
    assert [
        place for place in LEFT_OUT[stage] if not any(lies_in(module, (place,)) for module in modules)
    ] == []


def test_what_chooses_settings_knows_nothing_that_it_is_judged_by() -> None:
    judges_on_test = {"salon.judging.jury", "salon.judging.reference", "salon.evaluation.prompts"}
    assert not imported_by("select") & judges_on_test
    assert judges_on_test <= imported_by("evaluate")
    deps = {str(path) for path in STAGES["select"]["deps"]}
    assert not {path for path in deps if path.startswith("reports/")}
    assert "data/interim" in deps  # whose other splits `Dataset.only` refuses


def paths_of_dvc() -> set[str]:
    """Every path below data, models, reports that dvc.yaml names, KEY for what a `foreach` fills in."""
    found: set[str] = set()
    for stage in STAGES.values():
        for section in ("deps", "outs", "metrics", "plots"):
            for entry in stage.get(section, []):
                path = entry if isinstance(entry, str) else next(iter(entry))
                if not path.startswith(("src/", "$")):
                    found.add(re.sub(r"\$\{[\w.]+\}", "KEY", path))
    return found


def paths_of_salon() -> set[str]:
    """Every path that `Paths` knows, KEY standing for a method, a codec or a sentinel."""
    paths, found = Paths(Path()), set()
    for name in vars(Paths):
        value = getattr(paths, name)
        if isinstance(value, Path):
            found.add(value.as_posix())
        elif callable(value) and not name.startswith("_"):
            found.add(value("KEY").as_posix())
    return found


def test_every_path_of_dvc_yaml_is_one_that_salon_knows() -> None:
    known = paths_of_salon()
    sentinel = re.compile(r"sentinel-[a-z_0-9]+")
    unknown = {
        path
        for path in paths_of_dvc()
        if sentinel.sub("KEY", path) not in known and not any(place.startswith(f"{path}/") for place in known)
    }
    assert (
        unknown - {f"reports/metrics/{name}.json" for name in ("scorer", "clip_tower", "codec-KEY")} == set()
    )
