"""What of a home other users of the machine may read."""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from sqlite3 import connect

import pytest

from tasks.settings import make_home, make_private_database, make_private_folder


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_home_is_its_owners(tmp_path: Path) -> None:
    make_home(tmp_path / "new" / "home")
    assert mode(tmp_path / "new" / "home") == 0o700
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o755)
    make_home(tmp_path / "shared")
    assert mode(tmp_path / "shared") == 0o755


def test_folder_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    make_private_folder(folder)
    assert mode(folder) == 0o700
    folder.chmod(0o775)
    make_private_folder(folder)
    assert mode(folder) == 0o700


def test_database_is_closed_with_the_files_beside_it(tmp_path: Path) -> None:
    """Also one of an earlier version, with another program at work on it."""
    file = tmp_path / "some.db"
    with closing(connect(file)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE kept (number)")
        found = sorted(tmp_path.iterdir())
        assert len(found) == 3
        for path in found:
            path.chmod(0o644)
        make_private_database(file)
        assert {mode(path) for path in found} == {0o600}
        database.execute("INSERT INTO kept VALUES (7)")
        database.commit()
    make_private_database(file)
    with closing(connect(file)) as database:
        assert database.execute("SELECT number FROM kept").fetchall() == [(7,)]


def test_new_database_is_closed_from_the_beginning(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private_database(tmp_path / "new.db")
        with closing(connect(tmp_path / "new.db")) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("CREATE TABLE kept (number)")
            assert {mode(path) for path in tmp_path.iterdir()} == {0o600}
    finally:
        os.umask(before)


@pytest.mark.parametrize("make", [make_private_folder, make_private_database])
def test_files_of_another_user_keep_their_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    path = tmp_path / "theirs"
    make(path)
    path.chmod(0o755)
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    make(path)
    assert mode(path) == 0o755
