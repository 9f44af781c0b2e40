"""Where the key of the server's secrets is kept."""

from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from deployments.local.encryption import FILE, key_setting
from deployments.local.programs import server_env
from tasks.settings import Settings

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


def test_database_of_an_earlier_version_keeps_its_own(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "prefect").mkdir()
    (tmp_path / "prefect" / "prefect.db").touch()
    assert given(settings) == {}
    assert not (tmp_path / FILE).exists()


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
