"""Log a method to the registry, and make it champion if it is really better."""

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from salon.errors import SalonError
from salon.files import write_json
from salon.params import Params
from salon.paths import Paths
from salon.registry import aliases, champions, combined, versions
from salon.registry.candidate import read_candidate
from salon.tracking import runs


def run(params: Params, paths: Paths, name: str, *, promote: bool = False) -> None:
    """Write a version of `salon-<name>` and `reports/registered/<name>.json`.

    Raises:
        SalonError: unknown method, a stage before this one has not run, or the store cannot be reached.
    """
    registration = register(params, paths, name, promote=promote)
    write_json(paths.registration(name), asdict(registration))
    print(describe(registration))
    store = runs.open_store(params, paths)
    missing = params.methods.keys() - champions.Champions(store, list(params.methods)).now().keys()
    # the first run of the pipeline would build it once per method; `salon sync` takes whoever is there
    if not missing or combined.exists(store):
        follow_champions(store, params, paths)


def follow_champions(store: runs.Store, params: Params, paths: Paths) -> None:
    """Bring `salon@champion` in step; where that fails, the champions of the methods stand all the same."""
    try:
        found = combined.follow_champions(store, params, paths)
    except SalonError as error:
        print(f"salon: {combined.COMBINED}@champion stays as it was: {error}", file=sys.stderr)
        return
    if found is not None:
        members = ", ".join(f"{method} {version}" for method, version in found.members.items())
        state = "built" if found.is_new else "in step"
        print(f"{combined.COMBINED}: {state}, version {found.version} (champion) holds {members}")


def register(params: Params, paths: Paths, name: str, *, promote: bool = False) -> aliases.Registration:
    params.method(name)
    candidate = read_candidate(paths, name)
    store = runs.open_store(params, paths)

    def judge_again(version: ModelVersion) -> dict[str, float]:
        from salon.evaluation.champion import judge_bundle  # the whole jury, which registration does without

        print(f"{version.name} version {version.version}: judged again, on today's prompts by today's judge")
        with tempfile.TemporaryDirectory() as folder:
            return judge_bundle(params, paths, versions.download_bundle(store, version, Path(folder)))

    return aliases.register(store, params, paths, candidate, judge_again, promote=promote)


def describe(registration: aliases.Registration) -> str:
    place = registration.alias or "without alias"
    return f"{registration.name} version {registration.version}: {place} ({registration.reason})"
