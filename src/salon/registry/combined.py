"""`salon@champion`: all champions in one registered model, for servers that hold one model at a time.

It is derived: who is champion is decided for each method by itself (`salon.registry.aliases`), and this one
follows. A combination that was there before, as after a rollback, is served from the version that it had.
"""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from salon.files import lines_sha256
from salon.inference.bundle import merge_bundles
from salon.params import Params
from salon.paths import Paths
from salon.registry.aliases import CHAMPION, PREVIOUS, create_model, move_aliases, version_at
from salon.registry.candidate import registered_name
from salon.registry.champions import Champions, serving_order
from salon.registry.lock import registry_lock
from salon.registry.versions import find_tagged, has_files, log_version
from salon.tracking.runs import Store, run

COMBINED = "salon"
COMPOSITION = "composition_sha256"  # tag: which versions, in which order


@dataclass(frozen=True)
class CombinedModel:
    """Which version serves all champions."""

    version: str
    members: Mapping[str, str]
    """Version of each method."""
    is_new: bool


def follow_champions(store: Store, params: Params, paths: Paths) -> CombinedModel | None:
    """Make `salon@champion` hold whoever is champion now; None where nobody is.

    Raises:
        SalonError: the files of a champion are gone or damaged; the alias stays where it was.
    """
    create_model(store.client, COMBINED)
    with registry_lock(store, paths, name=COMBINED) as exclusive:
        champions = Champions(store, serving_order(params))
        while members := champions.now():  # again, where another process moved the alias meanwhile
            digest = lines_sha256(f"{registered_name(method)} {members[method]}" for method in members)
            serving = version_at(store.client, COMBINED, CHAMPION)
            whole = serving is not None and has_files(store.client, serving)
            if serving is not None and whole and serving.tags.get(COMPOSITION) == digest:
                return CombinedModel(str(serving.version), members, is_new=False)
            found = find_tagged(store, COMBINED, COMPOSITION, digest)
            number = str((found or _create(store, champions, members, digest)).version)
            aliases = ({} if serving is None else {PREVIOUS: str(serving.version)}) | {CHAMPION: number}
            if move_aliases(store.client, COMBINED, aliases, expected=serving, exclusive=exclusive):
                return CombinedModel(number, members, is_new=found is None)
        return None


def exists(store: Store) -> bool:
    """Whether there is a `salon@champion`."""
    return version_at(store.client, COMBINED, CHAMPION) is not None


def _create(store: Store, champions: Champions, members: Mapping[str, str], digest: str) -> ModelVersion:
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as fetched:
        bundle = Path(temporary) / "bundle"
        bundles = [fetched.enter_context(champions.files(*member)) for member in members.items()]
        card = _card(members)
        merge_bundles(bundle, bundles, versions=members, card=card)
        metadata, tags = {"methods": dict(members)}, {COMPOSITION: digest}
        with run(store, name=COMBINED, stage="register") as logged_into:
            return log_version(
                store, logged_into.id, name=COMBINED, bundle=bundle, card=card, metadata=metadata, tags=tags
            )


def _card(versions: Mapping[str, str]) -> str:
    members = "\n".join(
        f"- `{method}`: salon-{method} version {number}" for method, number in versions.items()
    )
    return (
        f"# {COMBINED}\n\nAll champions in one model; a row chooses by `method`, and `all` asks each of them."
        f"\n\n{members}\n\n"
        f"`mlflow models serve -m models:/{COMBINED}@champion --env-manager local`, then POST to "
        '`/invocations`: `{"dataframe_records": [{"prompt": "…", "method": "all", "seed": 7}]}`. '
        f"Rows that name no method are answered by `{next(iter(versions))}`. What each champion is and how "
        "good it is stands on its own card.\n"
    )
