"""What someone edits, or Prefect forgets, between two passes; and a pass that cannot be made."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from tasks.errors import OperatorError, ServerUnavailable
from tasks.history.database import open_history
from tasks.history.rows import RowReader
from tasks.history.update import update_history
from tasks.storage.results.local import LocalRoot
from tests.integration.history.test_history import reading, table
from tests.support.platform import Platform, free_port
from tests.support.schedules import add_schedule, planned


@pytest.fixture
def job(process_platform: Platform) -> UUID:
    """One that has completed."""
    job = process_platform.submit_job("find-primes/normal", {"upper_bound": 10}, "history")
    assert process_platform.ended(job)["state_type"] == "COMPLETED"
    return job


def counted(folder: Path) -> list[list[dict[str, Any]]]:
    return [table(folder, name, "checked") for name in ("attempt", "job", "throughput")]


@pytest.mark.thorough
async def test_what_prefect_forgets_still_counts(
    process_platform: Platform, job: UUID, tmp_path: Path
) -> None:
    async with reading(process_platform, tmp_path) as (client, settings):
        await update_history(client, settings)
        before = counted(tmp_path)
        assert str(job) in {row["job"] for row in before[1]}
        # As a vacuum of Prefect's does.
        process_platform.rest("DELETE", f"/flow_runs/{job}").raise_for_status()
        done = await update_history(client, settings)
    assert (done.new, done.deleted) == (0, 0)
    assert counted(tmp_path) == before


async def test_an_edited_state_counts_once(
    process_platform: Platform, job: UUID, tmp_path: Path
) -> None:
    def ends() -> list[int]:
        months = [row for row in table(tmp_path, "throughput") if row["period"] == "month"]
        return [sum(row[name] for row in months) for name in ("completed", "failed", "ran")]

    async with reading(process_platform, tmp_path) as (client, settings):
        await update_history(client, settings)
        completed, failed, ran = ends()
        edited = {"state": {"type": "FAILED", "message": "it is wrong"}, "force": True}
        process_platform.rest("POST", f"/flow_runs/{job}/set_state", edited).raise_for_status()
        assert (await update_history(client, settings)).new == 1
    assert ends() == [completed - 1, failed + 1, ran]
    (row,) = [row for row in table(tmp_path, "attempt") if row["job"] == str(job)]
    assert (row["state"], row["cause"]) == ("FAILED", "it is wrong")


@pytest.mark.thorough
async def test_another_schema_and_a_server_that_is_away(
    process_platform: Platform, job: UUID, tmp_path: Path
) -> None:
    def schema(version: str) -> None:
        with closing(sqlite3.connect(tmp_path / "history.db")) as database:
            database.execute("UPDATE alembic_version SET version_num = ?", [version])
            database.commit()

    async with reading(process_platform, tmp_path) as (client, settings):
        with open_history(settings) as history:
            history.migrate()
        schema("9999")
        with pytest.raises(OperatorError, match="9999, and this code knows 0001 at most: update"):
            await update_history(client, settings)
        schema("0001")
        address = f"http://127.0.0.1:{free_port()}/api"
        with temporary_settings({PREFECT_API_URL: address, PREFECT_CLIENT_MAX_RETRIES: 0}):
            async with get_client() as nobody:
                with pytest.raises(ServerUnavailable, match="and the next pass goes on: "):
                    await update_history(nobody, settings)
        assert (await update_history(client, settings)).all
    assert str(job) in {row["job"] for row in table(tmp_path, "job")}


async def test_a_job_for_later_is_read_when_it_is_due(
    process_platform: Platform, tmp_path: Path
) -> None:
    deployment = process_platform.deployment("find-primes/low")
    parameters = {"payload": {"upper_bound": 10}, "results_directory": "later"}
    schedule = add_schedule(process_platform.api, deployment, parameters=parameters)
    try:
        run, *_ = planned(process_platform.api, deployment)
        async with reading(process_platform, tmp_path) as (client, settings):
            await update_history(client, settings)
            assert run["id"] not in {row["job"] for row in table(tmp_path, "job")}
            assert {row["pending"] for row in table(tmp_path, "backlog")} == {0}
            # A schedule submits its runs when they are due.
            row = await RowReader(client, LocalRoot(tmp_path)).row(
                await client.read_flow_run(run["id"])
            )
        assert row["submitted"] == row["due"] > datetime.now(UTC)
    finally:
        path = f"/deployments/{deployment}/schedules/{schedule['id']}"
        process_platform.rest("DELETE", path).raise_for_status()
