"""Registry and workspace in step: what is trained here and missing there is registered."""

from salon.params import Params
from salon.paths import Paths
from salon.registry import aliases, versions
from salon.registry.candidate import model_sha256, registered_name
from salon.stages.register import describe, follow_champions, register
from salon.tracking import runs


def run(params: Params, paths: Paths) -> None:
    """Register what this workspace has and the store has not; print one line per method.

    The reports of the register stage stay as they are: they belong to DVC.
    """
    store = runs.open_store(params, paths)
    for name in params.methods:
        if not (paths.selected(name) / "model.safetensors").is_file():
            print(f"{registered_name(name)}: not trained here")
            continue
        digest = model_sha256(paths, name)
        version = versions.find_version(store, registered_name(name), digest)
        if version is not None and "promotion_reason" in version.tags:
            alias = aliases.alias_of(store, version)
            print(f"{registered_name(name)}: in step, version {version.version} ({alias or 'no alias'})")
        elif not paths.metrics(name).is_file():
            print(f"{registered_name(name)}: trained, not evaluated yet: run `dvc repro`")
        else:
            print(f"{describe(register(params, paths, name))}; the registry did not have it")
    follow_champions(store, params, paths)
