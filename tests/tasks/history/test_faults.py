"""Databases that are away, full, broken or of another version: one line, and then they work."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from tasks.errors import OperatorError
from tasks.history.database import History, open_history
from tasks.history.schema import Attempt
from tasks.history.store import put
from tasks.settings import Settings
from tests.support.platform import free_port
from tests.tasks.history.test_database import rows_of
from tests.tasks.history.test_store import check, read, write
from tests.tasks.small_disks import on_small_disk

ME = "tests.tasks.history.test_faults"


def refusal(work: Callable[[], object]) -> str:
    with pytest.raises(OperatorError) as raised:
        work()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_newer_and_older_schemas(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    for foreign in ("9999", "3bf47e3ce2dd"):  # the second is like those of Prefect's own tables
        with history.writing() as connection:
            connection.execute(text(f"UPDATE alembic_version SET version_num = '{foreign}'"))
        for work in (history.migrate, lambda: read(history, Attempt)):
            said = refusal(work)
            assert f"has the schema {foreign}, and this code knows 0001 at most" in said
            assert "update this Prefecture, or give it a database of its own" in said
    with history.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    write(history, rows_of(1))
    check(history, rows_of(1))
    monkeypatch.setattr("tasks.history.database.SCHEMAS", ("0001", "0002"))
    said = refusal(lambda: read(history, Attempt))
    assert "has the older schema 0001: the next pass of aggregate-history brings it" in said


def test_none_yet(tmp_path: Path) -> None:
    with open_history(Settings(home=tmp_path)) as history:
        assert "there is no run history in" in refusal(lambda: read(history, Attempt))


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    file.write_bytes(b"no database at all, and long enough " * 200)
    with open_history(Settings(home=tmp_path)) as history:
        assert "is corrupt (file is not a database): move the file away" in refusal(history.migrate)
    file.rename(tmp_path / "aside")
    with open_history(Settings(home=tmp_path)) as history:
        history.migrate()
        assert write(history, rows_of(1)), "the next pass makes a new one"


def test_a_file_that_is_torn(tmp_path: Path) -> None:
    file = tmp_path / "history.db"
    with open_history(Settings(home=tmp_path)) as history:
        history.migrate()
        write(history, rows_of(1))
    whole = file.read_bytes()
    file.write_bytes(whole[: 3 * len(whole) // 4])
    with open_history(Settings(home=tmp_path)) as history:
        for work in (lambda: write(history, rows_of(1)), lambda: read(history, Attempt)):
            assert "is corrupt (database disk image is malformed): move" in refusal(work)
    file.write_bytes(whole)
    with open_history(Settings(home=tmp_path)) as history:
        assert write(history, rows_of(1)) == 0, "a copy has been put back"


def fill_up(home: Path) -> str:
    """What a pass ends with on a disk that is full; the next one has room again."""
    with open_history(Settings(home=home)) as history:
        history.migrate()
        write(history, rows_of(1))
        ballast = home / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                pass
        more = [row for seed in range(2, 9) for row in rows_of(seed)]
        said = refusal(lambda: write(history, more))
        check(history, rows_of(1))
        ballast.unlink()
        write(history, more)
        check(history, [*rows_of(1), *more])
    return said


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    said = on_small_disk(disk, "size=4m", ME, disk)
    assert said.startswith(f"the run history in sqlite:///{disk}/history.db cannot be written (")
    assert said.endswith("): free some space; the next pass catches up")


@pytest.mark.parametrize("server", ["postgresql", "mysql"])
def test_out_of_reach(tmp_path: Path, server: str) -> None:
    url = SecretStr(f"{server}://anna:hush@127.0.0.1:{free_port()}/history")
    with open_history(Settings(home=tmp_path, history_url=url)) as history:
        said = refusal(history.migrate)
    assert "does not answer" in said
    assert "the next pass catches up" in said
    assert "hush" not in said


@pytest.mark.parametrize("nothing", ["postgresql", "mysql"], indirect=True)
def test_a_server_that_goes_away_midway(history: History, nothing: Settings) -> None:
    ends = {
        "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})"),
        "mysql": ("SELECT CONNECTION_ID()", "KILL CONNECTION {}"),
    }

    def work() -> None:
        with history.writing() as connection:
            who, end = ends[connection.dialect.name]
            put(connection, rows_of(1), {})
            mine = connection.execute(text(who)).scalar()
            with open_history(nothing) as other, other.reading() as theirs:
                theirs.execute(text(end.format(mine)))
            put(connection, rows_of(2), {})

    said = refusal(work)
    assert "does not answer" in said
    assert "hush" not in said
    assert read(history, Attempt) == []
    write(history, rows_of(1) + rows_of(2))
    check(history, rows_of(1) + rows_of(2))


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("oracle://anna:hush@host/name", "names 'oracle': use postgresql, mysql or sqlite"),
        ("anna hush", "is no address of a database: write postgresql://"),
    ],
)
def test_no_such_address(tmp_path: Path, url: str, message: str) -> None:
    settings = Settings(home=tmp_path, history_url=SecretStr(url))

    def open_it() -> None:
        with open_history(settings):
            pass

    said = refusal(open_it)
    assert message in said
    assert "hush" not in said + repr(settings.history_url)


if __name__ == "__main__":
    print(fill_up(Path(sys.argv[1])))
