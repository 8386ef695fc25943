"""One process at a time reads and moves what stands in the registry under one name.

Beside a sqlite file a lock file is enough; PostgreSQL and MySQL have locks of their own, which end with the
connection. MLflow's HTTP server offers neither a lock nor a conditional write: there
`salon.registry.aliases.move_aliases` compares and swaps, and the same weights that two machines register at
once become two versions.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock

from salon.paths import Paths
from salon.tracking.runs import Store, sqlite_file

ADVISORY_LOCKS = {
    "postgresql": "SELECT pg_advisory_lock(hashtext(:name))",
    "mysql": "SELECT GET_LOCK(LEFT(:name, 64), 1000000)",  # the longest name; seconds
}


@contextmanager
def registry_lock(store: Store, paths: Paths, *, name: str) -> Iterator[bool]:
    """Held while the versions of one registered model are read and changed; yields whether nobody else can.

    On an HTTP server only the processes of this workspace are kept apart.
    """
    file = sqlite_file(store.uri)
    lock = f"{file}.{name}.lock" if file else paths.scratch / f"registry.{name}.lock"
    (file.parent if file else paths.scratch).mkdir(parents=True, exist_ok=True)
    statement = ADVISORY_LOCKS.get(store.uri.partition(":")[0].partition("+")[0])
    with FileLock(lock):
        if statement is None:
            yield file is not None
            return
        from sqlalchemy import NullPool, create_engine, text

        engine = create_engine(store.uri, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(statement), {"name": name})
            yield True
