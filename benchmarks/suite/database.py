"""Databases for the servers that are measured."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.tasks.history.postgres import new_database, postgres_server


@contextmanager
def database(home: Path, kind: str) -> Generator[Mapping[str, str]]:
    """Create a database, `sqlite` or `postgresql`. Yields the settings of a server that uses it."""
    if kind == "sqlite":
        yield {}
        return
    folder = home / "postgres"
    folder.mkdir(parents=True)
    with postgres_server(folder) as address:
        url = f"{address}{new_database(address)}".replace("postgresql:", "postgresql+asyncpg:")
        yield {"PREFECT_SERVER_DATABASE_CONNECTION_URL": url}
