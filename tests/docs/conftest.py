"""The database of the page about tracking servers: PostgreSQL where it is installed, else a file."""

from collections.abc import Iterator

import pytest

from postgres import postgres_database


@pytest.fixture(scope="session")
def database() -> Iterator[str]:
    """The URL of an empty database."""
    with postgres_database() as url:
        yield url or "sqlite:///server.db"
