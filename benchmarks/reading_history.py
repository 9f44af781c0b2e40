"""Three ways to read the outcome of runs from a Prefect server: its API, its events, its tables.

    python benchmarks/reading_history.py [--runs 10000]

`prefecture up` with its own SQLite runs one real job. Then the server is stopped, the rows of that
job are copied `--runs` times, a second apart, and the server is restarted.

- **API**: 200 flow runs a page, the server's maximum, by end time.
- **events**: 50 a page, the server's maximum; the history needs three of each run: Pending, Running
  and Completed. Prefect keeps them for 7 days by default.
- **SQL**: the same columns from the server's own tables, read-only. Their names are private to
  Prefect, and a reader needs access to the database, with its password.
- **whole passes** of aggregate-history, over the API, into SQLite, every period counted.
"""

import argparse
import asyncio
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.history.update import update_history
from tasks.settings import Settings
from tests.support.session.environment import PASSWORD

_AUTH = httpx.BasicAuth(*PASSWORD.split(":"))

APART = timedelta(seconds=1)
PAGE, EVENTS_PAGE = 200, 50
EVENTS = ("prefect.flow-run.Pending", "prefect.flow-run.Running", "prefect.flow-run.Completed")
_TIME = re.compile(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}")
_COPIED = (
    ("flow_run_state", "flow_run_id = ? AND type = 'COMPLETED'"),
    ("flow_run", "id = ?"),
    ("events", f"resource_id = 'prefect.flow-run.' || ? AND event IN {EVENTS}"),
)
_COLUMNS = """
    id, name, state_type, run_count, expected_start_time, start_time, end_time, total_run_time,
    parameters, flow_id, work_queue_id, infrastructure_pid, labels, created, updated
"""


@contextmanager
def up(home: Path) -> Generator[str]:
    """Run `prefecture up` on the pool `process`. Yields the address of the API."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [str(Path(sys.executable).with_name("prefecture")), "up", "--pool", "process"]
    own = {"PREFECTURE_HOME": str(home), "PREFECTURE_ANALYTICS": "false"}
    with (home / "up.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)], env=os.environ | own, stdout=log, stderr=log
        )
    try:
        while "ready" not in (home / "up.log").read_text():
            if process.poll() is not None:
                sys.exit((home / "up.log").read_text())
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/api"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def run_a_job(api: str) -> str:
    """Run a job until it has ended. Returns its id."""
    command = [str(Path(sys.executable).with_name("prefecture")), "submit", "find-primes"]
    words = ['{"upper_bound": 1000}', "numbers", "--watch"]
    environment = os.environ | {"PREFECT_API_URL": api}
    done = subprocess.run([*command, *words], env=environment, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().split()[0]


def copy_rows(file: Path, job: str, runs: int) -> None:
    """Copy the run of a job `runs` times in the server's database, each copy a second older."""
    with closing(sqlite3.connect(file)) as database:
        database.row_factory = sqlite3.Row
        (state,) = database.execute("SELECT state_id FROM flow_run WHERE id = ?", [job]).fetchone()
        names = [(str(uuid4()), str(uuid4())) for _ in range(runs)]
        for table, which in _COPIED:
            for row in database.execute(f"SELECT * FROM {table} WHERE {which}", [job]).fetchall():
                columns = row.keys()
                places = ", ".join("?" * len(columns))
                copies = (
                    [
                        _changed(column, row[column], {job: run, state: its}, number)
                        for column in columns
                    ]
                    for number, (run, its) in enumerate(names, 1)
                )
                database.executemany(f"INSERT INTO {table} VALUES ({places})", copies)
        database.commit()


def _changed(column: str, value: Any, ids: dict[str, str], number: int) -> Any:
    if column == "idempotency_key" or not isinstance(value, str):
        return None if column == "idempotency_key" else value
    if _TIME.fullmatch(value):
        at = datetime.fromisoformat(value) - number * APART
        return f"{at:%Y-%m-%d %H:%M:%S.%f}"
    for old, new in ids.items():
        value = value.replace(old, new)
    # The id of an event: ids of runs and states are replaced already.
    return str(uuid4()) if column == "id" and value not in ids.values() else value


async def over_the_api(api: str) -> int:
    """Read every ended run as JSON, to measure the server. Returns their number."""
    found, before = 0, datetime.now(UTC)
    async with httpx.AsyncClient(base_url=api, timeout=60, auth=_AUTH) as client:
        while True:
            body = {
                "sort": "END_TIME_DESC",
                "limit": PAGE,
                "flow_runs": {"end_time": {"before_": before.isoformat()}},
            }
            page = (await client.post("/flow_runs/filter", json=body)).raise_for_status().json()
            found += len(page)
            if len(page) < PAGE:
                return found
            before = datetime.fromisoformat(page[-1]["end_time"]) - timedelta(microseconds=1)


async def from_events(api: str, pages: int) -> int:
    """Read `pages` pages of events. Returns the number of events."""
    found = 0
    async with httpx.AsyncClient(timeout=60, auth=_AUTH) as client:
        body = {"limit": EVENTS_PAGE, "filter": {"event": {"name": [*EVENTS]}}}
        answer = await client.post(f"{api}/events/filter", json=body)
        for _ in range(pages):
            page = answer.raise_for_status().json()
            found += len(page["events"])
            if not page["next_page"]:
                break
            answer = await client.get(page["next_page"])
    return found


def from_tables(file: Path) -> int:
    """Read every ended run. Returns their number."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        wanted = f"SELECT {_COLUMNS} FROM flow_run WHERE end_time IS NOT NULL ORDER BY end_time"
        return len(database.execute(wanted).fetchall())


async def in_passes(api: str, home: Path) -> int:
    """Run passes of aggregate-history until all runs are read. Returns the number of runs."""
    new = 0
    with temporary_settings({PREFECT_API_URL: api}):
        async with get_client() as client:
            while True:
                done = await update_history(client, Settings(home=home))
                new += done.new
                if done.all:
                    return new


def show(name: str, begun: float, count: float) -> None:
    """Print a line of the table."""
    seconds = time.perf_counter() - begun
    print(f"  {name:28} {count:9,.0f} runs {seconds:8.2f} s {count / seconds:12,.0f} runs/s")


def main(arguments: Sequence[str]) -> None:
    """Measure the three ways and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=10_000)
    runs: int = parser.parse_args(arguments).runs
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        file = home / "prefect" / "prefect.db"
        with up(home) as api:
            job = run_a_job(api)
        copy_rows(file, job, runs)
        with up(home) as api:
            begun = time.perf_counter()
            show("API, 200 a page", begun, asyncio.run(over_the_api(api)))
            begun = time.perf_counter()
            events = asyncio.run(from_events(api, runs // EVENTS_PAGE))
            show("events, 50 a page, 3 a run", begun, events / len(EVENTS))
            begun = time.perf_counter()
            show("SQL, the server's tables", begun, from_tables(file))
            begun = time.perf_counter()
            show("whole passes, over the API", begun, asyncio.run(in_passes(api, home)))


if __name__ == "__main__":
    main(sys.argv[1:])
