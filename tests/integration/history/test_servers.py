"""A pass, the numbers in the terminal and the report, with the history in a database server."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr
from sqlalchemy import select

from tasks.history.database import open_history
from tasks.history.schema import Attempt, Job, columns
from tasks.history.update import update_history
from tasks.settings import Settings
from tests.support.platform import Platform
from tests.tasks.history import mariadb, postgres

TREE = Path(__file__).parents[3]
REPORT = """
import asyncio
from flows.report_usage import report_usage
print(asyncio.run(report_usage(days=1)))
"""


@pytest.fixture(params=["postgresql", "mysql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    """The address of an empty database."""
    folder = tmp_path / "server"
    folder.mkdir()
    if request.param == "mysql":
        with mariadb.mariadb_server(folder) as address:
            yield address + mariadb.new_database(address)
    else:
        with postgres.postgres_server(folder) as address:
            yield address + postgres.new_database(address)


async def two_passes(platform: Platform, settings: Settings) -> None:
    with temporary_settings({PREFECT_API_URL: platform.api}):
        async with get_client() as client:
            assert (await update_history(client, settings)).all
            assert (await update_history(client, settings)).all


def rows_of(settings: Settings, job: UUID) -> list[Any]:
    """What the history says of a job."""
    found: list[Any] = []
    with open_history(settings) as history, history.reading() as connection:
        for table in (columns(Attempt), columns(Job)):
            wanted = select(*(column for column in table.c if column.name != "checked"))
            found += connection.execute(wanted.where(table.c.job == str(job))).all()
    return found


@pytest.mark.thorough
def test_as_in_a_file(process_platform: Platform, url: str, tmp_path: Path) -> None:
    job = process_platform.submit_job("find-primes/normal", {"upper_bound": 100}, "history")
    assert process_platform.ended(job)["state_type"] == "COMPLETED"
    found: list[list[Any]] = []
    for address in (url, f"sqlite:///{tmp_path}/history.db"):
        settings = Settings(
            home=process_platform.home,
            results_root=process_platform.results,
            history_url=SecretStr(address),
        )
        asyncio.run(two_passes(process_platform, settings))
        found.append(rows_of(settings, job))
    in_a_server, in_a_file = found
    assert len(in_a_server) == 2
    assert in_a_server == in_a_file

    environment = process_platform.environment | {"PREFECTURE_HISTORY_URL": url}
    platform = replace(process_platform, environment=environment)
    done = platform.command("prefecture", "stats", "--json", "--task", "find-primes")
    numbers = json.loads(done.stdout)
    assert sum(row["completed"] for row in numbers["throughput"]) >= 1
    assert [row["queue"] for row in numbers["backlog"]] == ["high", "normal", "low"]
    assert "Starts of a job" in platform.command("prefecture", "stats").stdout

    environment = environment | {"PREFECT_API_URL": platform.api}
    command = [sys.executable, "-c", REPORT]
    subprocess.run(command, env=environment, cwd=TREE, check=True, capture_output=True)
    report = platform.results / "reports" / "latest" / "report.html"
    assert "<td>find-primes</td>" in report.read_text()
