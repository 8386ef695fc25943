"""Log a method to the registry, and make it champion if it is really better."""

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from salon.errors import SalonError
from salon.files import write_json
from salon.judging.contest import Contest
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

    def hold(challenger: ModelVersion, champion: ModelVersion, number: int) -> Contest:
        # the whole jury, which a first champion does without
        from salon.evaluation.contest import hold_contest

        print(f"{candidate.name}: contest {number}, version {challenger.version} against {champion.version}")
        with tempfile.TemporaryDirectory() as folder:
            bundles = {
                part: versions.download_bundle(store, version, Path(folder) / part)
                for part, version in (("challenger", challenger), ("champion", champion))
            }
            return hold_contest(params, paths, **bundles, attempt=number)

    return aliases.register(store, params, paths, candidate, hold, promote=promote)


def describe(registration: aliases.Registration) -> str:
    place = registration.alias or "without alias"
    return f"{registration.name} version {registration.version}: {place} ({registration.reason})"
