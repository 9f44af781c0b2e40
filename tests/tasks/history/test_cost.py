"""A pass costs what is new, not what is stored: it reads no table from end to end."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event

from tasks.history import store
from tasks.history.database import open_history
from tasks.settings import Settings
from tests.tasks.history.lives import MOMENTS
from tests.tasks.history.test_database import rows_of


def test_no_step_of_a_pass_reads_a_whole_table(tmp_path: Path) -> None:
    rows, day = rows_of(1), timedelta(days=1)
    asked: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    with open_history(Settings(home=tmp_path)) as history:
        history.migrate()
        with history.writing() as connection:
            event.listen(connection, "before_cursor_execute", note)
            store.put(connection, rows, {"ended": MOMENTS["leap"]})
            store.newer(connection, {row["flow_run"]: row["updated"] for row in rows})
            found = store.open_attempts(connection, 200)
            assert found
            store.mark_checked(connection, found, MOMENTS["leap"])
            store.mark_deleted(connection, found[:1], MOMENTS["leap"] + day)
            backlog = {"queue": "low", "pending": 0, "running": 0, "oldest_wait": 0.0}
            store.put_backlog(connection, [backlog | {"taken": MOMENTS["leap"]}])
            store.put(connection, [row | {"cause": "late"} for row in rows], {})
            assert store.forget(connection, MOMENTS["leap"] + 2 * day) > 0
            event.remove(connection, "before_cursor_execute", note)
            questions = [(s, p) for s, p in asked if s.startswith(("SELECT", "DELETE", "UPDATE"))]
            assert len(questions) > 20
            scans: list[tuple[str, str]] = []
            for statement, given in questions:
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given)
                scans += [(step[-1], statement) for step in plan if step[-1].startswith("SCAN")]
    assert scans == []
