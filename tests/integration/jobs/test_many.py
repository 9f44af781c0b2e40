"""Jobs listed, explained and dealt with by what is known of them; schedules; on a real server."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from deployments import submit
from deployments.connection import connect
from deployments.jobs import schedules
from deployments.jobs.queries.catalog import find_task, list_tasks
from deployments.jobs.queries.explain import explain
from deployments.jobs.queries.listing import list_jobs
from deployments.jobs.queries.selection import Selection
from deployments.jobs.queries.short_ids import resolve_job
from deployments.jobs.records import JobRecord, JobState
from deployments.jobs.request import Terms
from tasks.errors import InvalidPayload, PrefectureError
from tests.support.platform import Platform, pause

SMALL = {"upper_bound": 100}


async def listed(**criteria: Any) -> list[JobRecord]:
    async with connect() as client:
        return (await list_jobs(client, Selection(**criteria))).jobs


async def test_jobs_that_wait(here: Platform) -> None:
    tag = f"list:{uuid4()}"
    with pause(here):
        jobs = [
            submit("find-primes", SMALL, f"many/{queue}", queue=queue, tags=[tag]).id
            for queue in ("high", "normal", "low")
        ]
        assert [job.job for job in await listed(tags=(tag,))] == jobs[::-1]
        for criteria in (
            {"queue": "low"},
            {"directory": "many/low"},
            {"states": (JobState.WAITING,), "queue": "low", "task": "find-primes"},
            {"directory": "many", "queue": "low", "since": datetime.now(UTC) - timedelta(hours=1)},
        ):
            assert [job.job for job in await listed(tags=(tag,), **criteria)] == jobs[2:]
        for criteria in (
            {"task": "compress-images"},
            {"directory": "man"},
            {"states": (JobState.COMPLETED,)},
            {"until": datetime.now(UTC) - timedelta(hours=1)},
        ):
            assert await listed(tags=(tag,), **criteria) == []
        async with connect() as client:
            assert await resolve_job(client, str(jobs[2])[:23]) == jobs[2]
            found = await explain(client, jobs[2])
        assert found.job.state is JobState.WAITING
        assert found.before is not None
        assert found.before >= 2
        assert found.reasons[0].startswith("the pool process is paused: resume it with")
        done = here.command("prefecture", "cancel", "--tag", tag)
        assert (done.returncode, done.stdout) == (1, "")
        assert "1 find-primes waiting in low" in done.stderr
        assert "Cancel 3 jobs? Add --yes" in done.stderr
        assert len(await listed(tags=(tag,), states=(JobState.WAITING,))) == 3
        done = here.command("prefecture", "jobs", "--tag", tag, "--limit", "2")
        assert "2 of 3 jobs: --limit 0 lists all" in done.stdout
        done = here.command("prefecture", "cancel", "--tag", tag, "--yes")
        assert done.returncode == 0, done.stderr
        assert sorted(done.stdout.splitlines()) == sorted(f"job {job} is cancelled" for job in jobs)
        done = here.command("prefecture", "jobs", "--tag", tag, "--json")
        assert {job["state"] for job in json.loads(done.stdout)} == {"cancelled"}
        done = here.command("prefecture", "delete", "--tag", tag, "--yes")
        assert done.returncode == 0, done.stderr
        assert await listed(tags=(tag,)) == []


async def test_schedule_of_a_user(here: Platform) -> None:
    name = f"nightly-{uuid4().hex[:8]}"
    terms = Terms("find-primes", "nightly", "low")
    async with connect() as client:
        with pytest.raises(InvalidPayload, match=r"payload\.upper_bound"):
            await schedules.create_schedule(client, terms, {"upper_bound": 1}, "0 2 * * *")
        zone = "Europe/Berlin"
        made = await schedules.create_schedule(client, terms, SMALL, "0 2 * * *", zone, name)
        assert made == name
        with pytest.raises(InvalidPayload, match="is a schedule"):
            await schedules.create_schedule(client, terms, SMALL, "0 3 * * *", "UTC", name)
        found = await schedules.find_schedule(client, name)
        assert (found.task, found.queue, found.results_directory) == (
            "find-primes",
            "low",
            "nightly",
        )
        assert (found.payload, found.cron, found.timezone) == (SMALL, "0 2 * * *", zone)
        assert found.active
        await schedules.set_active(client, name, active=False)
        assert not (await schedules.find_schedule(client, name)).active
        await schedules.set_active(client, name, active=True)
        assert (await schedules.find_schedule(client, name)).active
        # One that is due and waits, as the server's scheduler makes them.
        with pause(here):
            waits = here.create(
                "find-primes/low",
                parameters={"payload": SMALL, "results_directory": "nightly"},
                tags=["auto-scheduled"],
            ).json()["id"]
            with pytest.raises(PrefectureError, match="is paused, not deleted"):
                await schedules.delete_schedule(client, name)
            assert not (await schedules.find_schedule(client, name)).active
            await schedules.delete_schedule(client, name, force=True)
        with pytest.raises(InvalidPayload, match=f"no schedule '{name}'"):
            await schedules.find_schedule(client, name)
    here.ended(waits)


async def test_tasks_and_their_examples(here: Platform) -> None:
    async with connect() as client:
        tasks = {task.name: task for task in await list_tasks(client)}
        assert {"find-primes", "average-files", "run-container"} <= {*tasks}
        assert "sum-files" not in tasks
        assert (await find_task(client, "find-primes")).queues == ("high", "normal", "low")
        fields = {field.name: field for field in tasks["average-files"].fields}
        assert fields["generate.files"].type == "whole number, 1 to 100,000"
        assert fields["generate.files"].required
        assert not fields["source"].required
        assert fields["also"].type == "list: one of csv, npy"
        with pytest.raises(InvalidPayload, match=r"choose .*find-primes"):
            await find_task(client, "find-prime")
    task = tasks["find-primes"]
    job = submit(task.name, task.example, "trial", queue="high")
    here.completed(job.id, "trial")
    async with connect() as client:
        assert (await explain(client, job.id)).job.state is JobState.COMPLETED


@pytest.mark.thorough
async def test_result_in_another_home(here: Platform) -> None:
    job = submit("find-primes", SMALL, "elsewhere", queue="high").id
    folder = here.completed(job, "elsewhere")
    here.environment["PREFECTURE_RESULTS_ROOT"] = str(here.home / "another")
    try:
        done = here.command("prefecture", "results", str(job))
    finally:
        del here.environment["PREFECTURE_RESULTS_ROOT"]
    assert done.returncode == 1
    assert f"the results root here, {here.home / 'another'}, has no result of it" in done.stderr
    assert "set PREFECTURE_RESULTS_ROOT or PREFECTURE_HOME" in done.stderr
    assert folder.is_dir()
