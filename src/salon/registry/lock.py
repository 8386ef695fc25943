"""One process at a time reads and moves what stands in the registry under one name.

Beside a sqlite file a lock file is enough. A server offers no lock, and its users may sit on several
machines; there the processes draw numbers and wait for lower ones, as in a bakery (Lamport 1974). That needs
no more than reads and writes of one value per process, here a tag of the registered model. A process says
that it is alive by rewriting its tag; the tag of a dead one is taken away by whoever waits for it.
"""

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from salon.errors import SalonError
from salon.paths import Paths
from salon.tracking.runs import Store, sqlite_file

TICKET = "salon.turn."  # prefix of the tags
CHOOSING = 0  # stands in a ticket that has no number yet
POLL_SECONDS = 0.2
BEAT_SECONDS = 5.0
DEAD_SECONDS = 60.0  # without a beat, by the clock of who waits


@contextmanager
def registry_lock(store: Store, paths: Paths, *, name: str) -> Iterator[None]:
    """Held while the versions of one registered model are read and changed."""
    file = sqlite_file(store.uri)
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{file}.{name}.lock"):
            yield
        return
    # the processes of one workspace need not ask the server
    local = paths.scratch / f"registry.{name}.lock"
    local.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(local), turn(store.client, name):
        yield


@contextmanager
def turn(
    client: MlflowClient,
    name: str,
    *,
    poll_seconds: float = POLL_SECONDS,
    beat_seconds: float = BEAT_SECONDS,
    dead_seconds: float = DEAD_SECONDS,
) -> Iterator[None]:
    """Held by one process at a time among all that know the registered model `name` by any client."""
    ticket = f"{TICKET}{uuid.uuid4().hex}"
    try:
        client.set_registered_model_tag(name, ticket, f"{CHOOSING} 0")
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        yield  # no model, nothing to guard
        return
    try:
        number = 1 + max(int(value.split()[0]) for value in _tickets(client, name).values())
        client.set_registered_model_tag(name, ticket, f"{number} 0")
        with _heartbeat(client, name, ticket, number, seconds=beat_seconds):
            _wait(client, name, ticket, number, poll_seconds=poll_seconds, dead_seconds=dead_seconds)
            yield
    finally:
        client.delete_registered_model_tag(name, ticket)


@contextmanager
def _heartbeat(
    client: MlflowClient, name: str, ticket: str, number: int, *, seconds: float
) -> Iterator[None]:
    done = threading.Event()

    def beat() -> None:
        beats = 0
        while not done.wait(seconds):
            beats += 1
            client.set_registered_model_tag(name, ticket, f"{number} {beats}")

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _wait(
    client: MlflowClient, name: str, ticket: str, number: int, *, poll_seconds: float, dead_seconds: float
) -> None:
    """Until nobody has a lower number, or is about to choose one.

    Raises:
        SalonError: this process was so slow that others took it for dead.
    """
    changed: dict[str, tuple[str, float]] = {}  # what each ticket said, and since when
    while True:
        tickets = _tickets(client, name)
        if ticket not in tickets:
            raise SalonError(f"{name}: the registry answers too slowly to take turns: run it again")
        now = time.monotonic()
        waiting = False
        for other, value in tickets.items():
            theirs = int(value.split()[0])
            if other == ticket or (theirs != CHOOSING and (theirs, other) > (number, ticket)):
                continue
            waiting = True
            if changed.setdefault(other, (value, now))[0] != value:
                changed[other] = (value, now)
            elif now - changed[other][1] > dead_seconds:
                client.delete_registered_model_tag(name, other)
        if not waiting:
            return
        time.sleep(poll_seconds)


def _tickets(client: MlflowClient, name: str) -> dict[str, str]:
    tags = client.get_registered_model(name).tags
    return {key: value for key, value in tags.items() if key.startswith(TICKET)}
