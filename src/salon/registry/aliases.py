"""The registry: one version per set of weights, and the aliases that say which of them serves.

`champion` serves; `previous` is whom it replaced; `challenger` is the last that was not good enough. Aliases
are moved one by one, and each intermediate state has exactly one champion. Who reads and moves them does so
alone (`salon.registry.lock`) or sees afterwards that it did not (`move_aliases`), so that of two versions
that come at once one is compared with the other.
"""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from salon.errors import SalonError
from salon.params import Params, RegisterParams
from salon.paths import Paths
from salon.registry.candidate import Candidate, registered_name
from salon.registry.contests import SETTLE_SECONDS, HoldContest, meet
from salon.registry.lock import registry_lock
from salon.registry.promotion import Decision, broken_guardrails, decide
from salon.registry.versions import (
    create_version,
    download_bundle,
    find_version,
    has_files,
    log_judgement,
    run_to_log_into,
)
from salon.tracking.runs import Store, git_commit

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
ATTEMPTS = 5


@dataclass(frozen=True)
class Registration:
    """Where a method stands in the registry."""

    method: str
    name: str
    version: str
    alias: str | None
    promoted: bool
    reason: str
    model_sha256: str
    run_id: str


def register(
    store: Store,
    params: Params,
    paths: Paths,
    candidate: Candidate,
    hold: HoldContest,
    *,
    promote: bool,
) -> Registration:
    """Log, register and judge; doing it again with the same weights creates nothing.

    With `promote` the comparison with the champion is left out; the guardrails still hold.
    """
    for left in reversed(range(ATTEMPTS)):
        with registry_lock(store, paths, name=candidate.name) as exclusive:
            try:
                create_model(store.client, candidate.name)
                version = find_version(store, candidate.name, candidate.model_sha256)
                if version is None:
                    run_id = run_to_log_into(store, params, paths, candidate)
                    log_judgement(store, run_id, candidate)
                    version = create_version(store, run_id, candidate, commit=git_commit(paths.root))
                elif version.tags.get("judgement_sha256") != candidate.judgement_sha256:
                    log_judgement(store, str(version.run_id), candidate)
                    _tag(store, version, "judgement_sha256", candidate.judgement_sha256)
                return _decide_alias(
                    store,
                    version,
                    candidate,
                    params.register_,
                    hold,
                    promote=promote,
                    exclusive=exclusive,
                )
            except MlflowException:
                # a server may turn away one of two machines at once; a version that stands is found again
                if exclusive or not left:
                    raise
                time.sleep(SETTLE_SECONDS)
    raise AssertionError("the last attempt returns or raises")


def alias_of(store: Store, version: ModelVersion) -> str | None:
    """Its most telling alias."""
    aliases = store.client.get_model_version(version.name, version.version).aliases
    return next((alias for alias in (CHAMPION, PREVIOUS, CHALLENGER) if alias in aliases), None)


def rollback(store: Store, paths: Paths, method: str) -> tuple[str, str]:
    """Swap champion and previous; returns the versions now in these places.

    Raises:
        SalonError: there is no champion, or none before it.
    """
    name = registered_name(method)
    with registry_lock(store, paths, name=name) as exclusive:
        champion = version_at(store.client, name, CHAMPION)
        previous = version_at(store.client, name, PREVIOUS)
        if champion is None:
            raise SalonError(f"{name} has no champion: run `salon register {method}` first")
        if previous is None or str(previous.version) == str(champion.version):
            raise SalonError(
                f"{name} has no previous champion to go back to; version {champion.version} stays"
            )
        found = f"{name} version {previous.version}"
        if not has_files(store.client, previous):
            raise SalonError(f"the files of {found} are gone: it cannot serve again")
        try:
            with tempfile.TemporaryDirectory() as folder:
                download_bundle(store, previous, Path(folder))
        except SalonError as error:
            raise SalonError(f"{found} cannot serve again: {error}") from None
        swapped = {CHAMPION: str(previous.version), PREVIOUS: str(champion.version)}
        if not move_aliases(store.client, name, swapped, expected=champion, exclusive=exclusive):
            raise SalonError(f"{name} got another champion meanwhile: see which, and run this again")
        return swapped[CHAMPION], swapped[PREVIOUS]


def move_aliases(
    client: MlflowClient,
    name: str,
    aliases: Mapping[str, str],
    *,
    expected: ModelVersion | None,
    exclusive: bool,
) -> bool:
    """Write aliases in this order, if `expected` is champion still; whether its successor stands afterwards.

    Unless nobody else can write, this is a compare-and-swap in several requests: the champion is read,
    replaced, and read again when whoever had read the same must have written. An alias is one row, so that
    there is never no champion and never two. Of two that swap at once, the first sees that it was
    overwritten and decides again against the other. What cannot be excluded: that the other was held up
    between reading and writing for longer than SETTLE_SECONDS. Then the last that wrote is champion without
    a comparison with the first, until that one is registered again.
    """
    if _number(version_at(client, name, CHAMPION)) != _number(expected):
        return False
    for alias, number in aliases.items():
        client.set_registered_model_alias(name, alias, number)
    if exclusive:
        return True
    time.sleep(SETTLE_SECONDS)
    standing = client.get_registered_model(name).aliases
    # whoever is previous was compared with and replaced
    return aliases[CHAMPION] in (str(standing.get(alias)) for alias in (CHAMPION, PREVIOUS))


def _number(version: ModelVersion | None) -> str | None:
    return None if version is None else str(version.version)


def _decide_alias(
    store: Store,
    version: ModelVersion,
    candidate: Candidate,
    rule: RegisterParams,
    hold: HoldContest,
    *,
    promote: bool,
    exclusive: bool,
) -> Registration:
    client, name, number = store.client, candidate.name, str(version.version)
    alias = alias_of(store, version)
    # champion and previous keep their places: registering again neither demotes nor undoes a rollback
    if alias == CHAMPION or (alias == PREVIOUS and "promotion_reason" in version.tags and not promote):
        # a champion without a reason: killed between alias and tag
        reason = version.tags.get("promotion_reason", "promoted")
    else:
        for _ in range(ATTEMPTS):
            champion = version_at(client, name, CHAMPION)
            decision = _decide(
                store, version, candidate, champion, rule, hold, promote=promote, exclusive=exclusive
            )
            if not decision.promote:
                client.set_registered_model_alias(name, CHALLENGER, number)
                break
            replaced = {} if champion is None else {PREVIOUS: str(champion.version)}
            moved = {**replaced, CHAMPION: number}
            if move_aliases(client, name, moved, expected=champion, exclusive=exclusive):
                if _number(version_at(client, name, CHALLENGER)) == number:
                    client.delete_registered_model_alias(name, CHALLENGER)
                break
        else:
            raise SalonError(f"{name}: its champion changes all the time: run it again")
        reason = decision.reason
    alias = alias_of(store, version)
    _tag(store, version, "promotion_reason", reason)
    _tag(store, version, "promoted", str(alias == CHAMPION).lower())
    return Registration(
        method=candidate.method,
        name=name,
        version=number,
        alias=alias,
        promoted=alias == CHAMPION,
        reason=reason,
        model_sha256=candidate.model_sha256,
        run_id=str(version.run_id),
    )


def _decide(
    store: Store,
    version: ModelVersion,
    candidate: Candidate,
    champion: ModelVersion | None,
    rule: RegisterParams,
    hold: HoldContest,
    *,
    promote: bool,
    exclusive: bool,
) -> Decision:
    evidence = candidate.evidence
    broken = broken_guardrails(evidence, rule)
    if promote:
        return Decision(not broken, "; ".join(broken) or "promoted by hand")
    if champion is None or broken:
        return decide(evidence, None, rule)
    if not has_files(store.client, champion):
        decision = decide(evidence, None, rule)
        lost = f"the files of version {champion.version} are gone"
        return Decision(decision.promote, f"{lost}; {decision.reason}")
    try:
        bout = meet(store, version, champion, evidence, rule, hold, exclusive=exclusive)
    except SalonError as error:
        return Decision(False, f"no contest with version {champion.version}: {error}")
    return decide(evidence, bout, rule)


def create_model(client: MlflowClient, name: str) -> None:
    """Make room for versions of `name`, unless there is."""
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def version_at(client: MlflowClient, name: str, alias: str) -> ModelVersion | None:
    """The version that `alias` points to, or None."""
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        # an unknown alias of a known model is INVALID_PARAMETER_VALUE
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _tag(store: Store, version: ModelVersion, key: str, value: str) -> None:
    if version.tags.get(key) != value:
        store.client.set_model_version_tag(version.name, str(version.version), key, value)
