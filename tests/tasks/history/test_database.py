"""Databases that are away, full, broken, of another version, or written by two at once."""

import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from tasks.errors import OperatorError
from tasks.history.database import History, open_history
from tasks.history.store import put
from tasks.history.tables import Attempt
from tasks.settings import Settings
from tests.support.platform import free_port
from tests.tasks.history.lives import MOMENTS, Row, last, lives
from tests.tasks.history.postgres import new_database
from tests.tasks.history.test_store import check, read, write

README = Path(__file__).parents[3] / "README.md"
KILLED = """
import os, signal, sys
from pathlib import Path
from tasks.history.database import open_history
from tasks.history.store import put
from tasks.settings import Settings
from tests.tasks.history.lives import MOMENTS, last, lives
from datetime import timedelta

rows = [r for life in lives(1, 20, MOMENTS["leap"], timedelta(hours=3)) for r in last(life)]
with open_history(Settings()) as history, history.writing() as connection:
    assert put(connection, rows, {"ended": MOMENTS["leap"]}) == len(rows)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def rows_of(seed: int) -> list[Row]:
    return [
        row for life in lives(seed, 20, MOMENTS["leap"], timedelta(hours=3)) for row in last(life)
    ]


def refusal(work: Callable[[], object]) -> str:
    with pytest.raises(OperatorError) as raised:
        work()
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_two_at_once(history: History) -> None:
    batches = [rows_of(seed) for seed in (1, 2, 3)]
    failed: list[BaseException] = []

    def work(order: list[list[Row]]) -> None:
        try:
            for batch in order:
                write(history, batch)
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=work, args=[order]) for order in (batches, batches[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    check(history, [row for batch in batches for row in batch])


def test_migrated_by_two_at_once(tmp_path: Path, postgres: str) -> None:
    for url in (None, SecretStr(postgres + new_database(postgres))):
        with open_history(Settings(home=tmp_path, history_url=url)) as history:
            threads = [threading.Thread(target=history.migrate) for _ in range(3)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert read(history, Attempt) == []


def test_what_fails_midway_has_done_nothing(history: History) -> None:
    rows = rows_of(1)
    with pytest.raises(ZeroDivisionError), history.writing() as connection:
        put(connection, rows, {})
        raise ZeroDivisionError
    assert read(history, Attempt) == []
    write(history, rows)
    check(history, rows)


def test_killed_midway(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with open_history(settings) as history:
        history.migrate()
        environment = {"PREFECTURE_HOME": str(tmp_path), "PYTHONPATH": str(README.parent)}
        command = [sys.executable, "-c", KILLED]
        assert subprocess.run(command, env=environment, check=False).returncode == -9
        assert read(history, Attempt) == []
        rows = rows_of(1)
        assert write(history, rows) == len(rows)
        check(history, rows)


def test_newer_and_older_schemas(history: History) -> None:
    for version, message in (("9999", "this code knows 0001 at most"), ("0000", "older schema")):
        with history.writing() as connection:
            connection.execute(text(f"UPDATE alembic_version SET version_num = '{version}'"))
        assert message in refusal(lambda: read(history, Attempt))
    with history.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert "update this Prefecture" in refusal(history.migrate)


def test_none_yet(tmp_path: Path) -> None:
    with open_history(Settings(home=tmp_path)) as history:
        assert "there is no run history in" in refusal(lambda: read(history, Attempt))


def test_a_corrupt_file(tmp_path: Path) -> None:
    (tmp_path / "history.db").write_bytes(b"no database at all, and long enough " * 200)
    with open_history(Settings(home=tmp_path)) as history:
        assert "is corrupt (file is not a database): move the file away" in refusal(history.migrate)


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    with open_history(Settings(home=tmp_path)) as history:
        history.migrate()

        def fill() -> None:
            with history.writing() as connection:
                connection.execute(text("PRAGMA max_page_count = 40"))
                put(connection, [row for seed in range(9) for row in rows_of(seed)], {})

        assert "disk is full): free some space; the next pass catches up" in refusal(fill)
        assert read(history, Attempt) == []


def test_out_of_reach(tmp_path: Path) -> None:
    url = SecretStr(f"postgresql://anna:hush@127.0.0.1:{free_port()}/history")
    with open_history(Settings(home=tmp_path, history_url=url)) as history:
        said = refusal(history.migrate)
    assert "does not answer" in said
    assert "the next pass catches up" in said
    assert "hush" not in said


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


def test_the_readmes_questions(history: History) -> None:
    write(history, rows_of(1))
    questions = re.findall(r"```sql\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(questions) == 5
    with history.reading() as connection:
        answers = [connection.execute(text(question)).all() for question in questions]
    assert sum(row[2] for row in answers[0]) == sum(
        row["state"] == "COMPLETED" for row in rows_of(1)
    )
    assert answers[2][0][0] == "all"
    assert len(answers[4]) == 10


def test_the_tables_are_what_the_migrations_make(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from tasks.history.tables import Table

    with open_history(Settings(home=tmp_path)) as history:
        history.migrate()
        with history.reading() as connection:
            found: object = compare_metadata(MigrationContext.configure(connection), Table.metadata)
    assert found == []
    with closing(sqlite3.connect(tmp_path / "history.db")) as database:
        assert database.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
