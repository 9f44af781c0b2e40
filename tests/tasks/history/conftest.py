"""Histories to write into: SQLite, and a PostgreSQL and a MariaDB that the tests start."""

from collections.abc import Generator
from pathlib import Path

import pytest
from pydantic import SecretStr

from tasks.history.database import History, open_history
from tasks.settings import Settings
from tests.tasks.history import mariadb, postgres


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The address of a PostgreSQL server, to which a database's name is added."""
    with postgres.postgres_server(tmp_path_factory.mktemp("postgresql")) as address:
        yield address


@pytest.fixture(scope="session")
def mysql(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The same of a MariaDB server, which speaks MySQL's protocol."""
    with mariadb.mariadb_server(tmp_path_factory.mktemp("mysql")) as address:
        yield address


@pytest.fixture(params=["sqlite", "postgresql", "mysql"])
def nothing(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings that name a database without a table, of each kind in turn."""
    if request.param == "sqlite":
        return Settings(home=tmp_path)
    server: str = request.getfixturevalue(request.param)
    make = postgres.new_database if request.param == "postgresql" else mariadb.new_database
    return Settings(home=tmp_path, history_url=SecretStr(server + make(server)))


@pytest.fixture
def history(nothing: Settings) -> Generator[History]:
    """An empty history, in each kind of database in turn."""
    with open_history(nothing) as history:
        history.migrate()
        yield history
