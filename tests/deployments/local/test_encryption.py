"""Where the key of the server's secrets is kept."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography.fernet import Fernet

from deployments.local.encryption import FILE, key_setting
from deployments.local.programs import server_env
from tasks.settings import Settings
from tests.support.migrated import put_database

KEY = "PREFECT_SERVER_ENCRYPTION_KEY"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


def given(settings: Settings) -> dict[str, str]:
    return key_setting(settings, server_env(settings, "worker"))


def test_key_of_a_new_home_is_made_once(settings: Settings, tmp_path: Path) -> None:
    first = given(settings)
    Fernet(first[KEY])
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "prefect.db").touch()
    assert given(settings) == first


def test_key_of_an_earlier_version_leaves_the_database(settings: Settings, tmp_path: Path) -> None:
    database = tmp_path / "prefect" / "prefect.db"
    put_database(tmp_path)
    key = Fernet.generate_key().decode()
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "INSERT INTO configuration (id, key, value) VALUES (?, 'ENCRYPTION_KEY', ?)",
            (str(uuid4()), json.dumps({"fernet_key": key})),
        )
    assert key.encode() in database.read_bytes()
    for _ in range(2):
        assert given(settings) == {KEY: key}
        assert (tmp_path / FILE).read_text() == key
        left = [file for file in database.parent.iterdir() if key.encode() in file.read_bytes()]
        assert left == []
    # A database that has another key keeps it: the one in the file is not made of it.
    (tmp_path / FILE).write_text(other := Fernet.generate_key().decode())
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "INSERT INTO configuration (id, key, value) VALUES (?, 'ENCRYPTION_KEY', ?)",
            (str(uuid4()), json.dumps({"fernet_key": key})),
        )
    assert given(settings) == {KEY: other}
    assert key.encode() in database.read_bytes()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (KEY, "A" * 43 + "="),
        ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "postgresql+asyncpg://db.example/prefect"),
        ("PREFECT_SERVER_DATABASE_HOST", "db.example"),
    ],
)
def test_what_the_operator_gives_wins(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    given(settings)  # also where the home has a key of an earlier start
    monkeypatch.setenv(name, value)
    assert given(settings) == {}
