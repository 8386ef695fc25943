"""Put a method into the registry, keep registry and workspace in step, and go back to the champion before."""

import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from salon.errors import SalonError
from salon.jsonfile import write_json
from salon.params import Params
from salon.paths import Paths
from salon.tracking import champions, ensemble, registry, runs, versions
from salon.tracking.submission import model_sha256, read_submission, registered_name


def run(params: Params, paths: Paths, name: str, *, promote: bool = False) -> None:
    """Write a version of `salon-<name>` and `reports/registered/<name>.json`.

    Raises:
        SalonError: unknown method, a stage before this one has not run, or the store cannot be reached.
    """
    registration = _register(params, paths, name, promote=promote)
    write_json(paths.registration(name), asdict(registration))
    print(_describe(registration))
    store = runs.open_store(params, paths)
    missing = params.methods.keys() - champions.Champions(store, list(params.methods)).now().keys()
    # the first run of the pipeline would build it once per method; `salon sync` takes whoever is there
    if not missing or ensemble.exists(store):
        _follow(store, params, paths)


def sync(params: Params, paths: Paths) -> None:
    """Register what this workspace has and the store has not; print one line per method.

    The reports of the register stage stay as they are: they belong to DVC.
    """
    store = runs.open_store(params, paths)
    for name in params.methods:
        if not (paths.method(name) / "model.safetensors").is_file():
            print(f"{registered_name(name)}: not trained here")
            continue
        digest = model_sha256(paths, name)
        version = versions.find_version(store, registered_name(name), digest)
        if version is not None and "promotion_reason" in version.tags:
            alias = registry.alias_of(store, version)
            print(f"{registered_name(name)}: in step, version {version.version} ({alias or 'no alias'})")
        elif not paths.metrics(name).is_file():
            print(f"{registered_name(name)}: trained, not evaluated yet: run `dvc repro`")
        else:
            print(f"{_describe(_register(params, paths, name))}; the registry did not have it")
    _follow(store, params, paths)


def rollback(params: Params, paths: Paths, name: str) -> None:
    """Make the previous champion serve again.

    Raises:
        SalonError: there is none.
    """
    params.method(name)
    store = runs.open_store(params, paths)
    champion, previous = registry.rollback(store, paths, name)
    print(f"{registered_name(name)}: version {champion} is champion again; version {previous} is previous")
    _follow(store, params, paths)


def _follow(store: runs.Store, params: Params, paths: Paths) -> None:
    """Bring `salon@champion` in step; where that fails, the champions of the methods stand all the same."""
    try:
        found = ensemble.follow_champions(store, params, paths)
    except SalonError as error:
        print(f"salon: {ensemble.ENSEMBLE}@champion stays as it was: {error}", file=sys.stderr)
        return
    if found is None:
        return
    members = ", ".join(f"{method} {version}" for method, version in found.members.items())
    state = "built" if found.is_new else "in step"
    print(f"{ensemble.ENSEMBLE}: {state}, version {found.version} (champion) holds {members}")


def _register(params: Params, paths: Paths, name: str, *, promote: bool = False) -> registry.Registration:
    params.method(name)
    submission = read_submission(paths, name)
    store = runs.open_store(params, paths)
    commit = runs.git_commit(paths.root)

    def judge_again(version: ModelVersion) -> dict[str, float]:
        from salon.stages.evaluate import judge_bundle  # the whole jury, which registration does without

        print(f"{version.name} version {version.version}: judged again, on today's prompts by today's judge")
        with tempfile.TemporaryDirectory() as folder:
            return judge_bundle(params, paths, versions.download_bundle(store, version, Path(folder)))

    return registry.register(
        store, params, paths, submission, commit=commit, judge_again=judge_again, promote=promote
    )


def _describe(registration: registry.Registration) -> str:
    place = registration.alias or "without alias"
    return f"{registration.name} version {registration.version}: {place} ({registration.reason})"
