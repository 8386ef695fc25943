"""A PostgreSQL server of the test's own, where one is installed."""

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PASSWORD = "secret"
USER = "postgres"  # whom the packages of all distributions create


@contextmanager
def postgres_database() -> Iterator[str | None]:
    """The URL of an empty database; None where PostgreSQL or its driver is missing."""
    programs = [find_program(name) for name in ("initdb", "pg_ctl", "createdb")]
    driver = importlib.util.find_spec("psycopg")
    if None in programs or driver is None or (os.geteuid() == 0 and not user_exists()):
        yield None
        return
    with postgres_folder() as folder:
        initdb, pg_ctl, createdb = programs
        data, password = str(folder / "data"), folder / "password"
        password.write_text(PASSWORD, encoding="utf-8")
        run(initdb, "-D", data, "-U", "salon", "-A", "scram-sha-256", f"--pwfile={password}")
        run(
            pg_ctl,
            "-D",
            data,
            "-o",
            f"-c listen_addresses='' -k {folder}",
            "-l",
            f"{folder}/log",
            "-w",
            "start",
        )
        try:
            run("env", f"PGPASSWORD={PASSWORD}", createdb, "-h", str(folder), "-U", "salon", "salon")
            yield f"postgresql://salon:{PASSWORD}@/salon?host={folder}"
        finally:
            run(pg_ctl, "-D", data, "-m", "immediate", "stop")


def find_program(name: str) -> str | None:
    """On the path, or where Debian hides it."""
    hidden = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(hidden[-1]) if hidden else None)


def user_exists() -> bool:
    return USER in {entry.pw_name for entry in pwd.getpwall()}


@contextmanager
def postgres_folder() -> Iterator[Path]:
    """Short enough for a socket's name, and not root's: PostgreSQL refuses to be run by root."""
    with tempfile.TemporaryDirectory(prefix="salon-pg-") as name:
        if os.geteuid() == 0:
            shutil.chown(name, USER)
        yield Path(name)


def run(*command: str | None) -> None:
    as_user = ["runuser", "-u", USER, "--"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*as_user, *map(str, command)],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stdout
