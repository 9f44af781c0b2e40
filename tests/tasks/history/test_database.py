"""One database for several writers, its schema, and the questions that people ask of it."""

import re
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from tasks.errors import OperatorError
from tasks.history.database import History, open_history
from tasks.history.schema import SCHEMAS, Attempt
from tasks.history.store import put
from tasks.settings import Settings
from tests.tasks.history.lives import MOMENTS, Row, last, lives
from tests.tasks.history.test_store import check, read, write

TREE = Path(__file__).parents[3]
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


def test_migrated_by_three_at_once(nothing: Settings) -> None:
    with open_history(nothing) as history:
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
        environment = {"PREFECTURE_HOME": str(tmp_path), "PYTHONPATH": str(TREE)}
        command = [sys.executable, "-c", KILLED]
        assert subprocess.run(command, env=environment, check=False).returncode == -9
        assert read(history, Attempt) == []
        rows = rows_of(1)
        assert write(history, rows) == len(rows)
        check(history, rows)


def test_the_queries_of_the_guide(history: History) -> None:
    write(history, rows_of(1))
    page = TREE / "docs" / "guides" / "run-history.md"
    questions = re.findall(r"```sql\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(questions) == 5
    with history.reading() as connection:
        answers = [connection.execute(text(query)).all() for query in questions]
    assert sum(row[2] for row in answers[0]) == sum(
        row["state"] == "COMPLETED" for row in rows_of(1)
    )
    assert answers[2][0][0] == "all"
    assert len(answers[4]) == 10


def test_the_tables_are_what_the_migrations_make(history: History) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from tasks.history.schema import Table

    with history.reading() as connection:
        context = MigrationContext.configure(connection)
        found: object = compare_metadata(context, Table.metadata)
        assert context.get_current_revision() == SCHEMAS[-1]
    assert found == []


def test_a_migration_that_was_killed_begins_again(history: History) -> None:
    # Where the database commits every statement of a migration by itself.
    with history.writing() as connection:
        mysql = connection.dialect.name == "mysql"
        connection.execute(text("DELETE FROM alembic_version"))
        connection.execute(text("DROP TABLE watermark"))
        connection.execute(text("DROP INDEX ix_job_outcome" + (" ON job" if mysql else "")))
    if mysql:
        history.migrate()
        test_the_tables_are_what_the_migrations_make(history)
    else:  # where they are not ours, then
        with pytest.raises(OperatorError, match="already exists"):
            history.migrate()
