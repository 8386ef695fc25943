"""The champion before serves again."""

from salon.params import Params
from salon.paths import Paths
from salon.registry import aliases
from salon.registry.candidate import registered_name
from salon.stages.register import follow_champions
from salon.tracking import runs


def run(params: Params, paths: Paths, name: str) -> None:
    """Make the previous champion serve again; a SalonError where there is none."""
    params.method(name)
    store = runs.open_store(params, paths)
    champion, previous = aliases.rollback(store, paths, name)
    print(f"{registered_name(name)}: version {champion} is champion again; version {previous} is previous")
    follow_champions(store, params, paths)
