"""Histories to write into: SQLite, and a PostgreSQL that the tests start."""

from collections.abc import Generator
from pathlib import Path

import pytest
from pydantic import SecretStr

from tasks.history.database import History, open_history
from tasks.settings import Settings
from tests.tasks.history.postgres import new_database, postgres_server


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The address of a PostgreSQL server, to which a database's name is added."""
    with postgres_server(tmp_path_factory.mktemp("postgres")) as address:
        yield address


@pytest.fixture(params=["sqlite", "postgres"])
def history(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[History]:
    """An empty history, in each kind of database in turn."""
    url = None
    if request.param == "postgres":
        server: str = request.getfixturevalue("postgres")
        url = SecretStr(server + new_database(server))
    with open_history(Settings(home=tmp_path, history_url=url)) as history:
        history.migrate()
        yield history
