"""Which attempts are the end of their job, asked of a real server."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Crashed, Failed, Running, Scheduled

from deployments.notifications.ledger import open_ledger
from deployments.notifications.notifier import detector, runs
from tasks.contracts import (
    REQUEUED_AS_LABEL,
)
from tasks.runtime.events import JobCancelled, JobCompleted, JobFailed
from tasks.settings import Settings
from tests.deployments.notifications.resting_jobs import DIRECTORY, EVERYTHING, Jobs
from tests.support.platform import Platform


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home)


@pytest.fixture
async def jobs(server: Platform, settings: Settings) -> AsyncGenerator[Jobs]:
    assert server.pool == "process", "its worker and supervisor leave the other pool alone"
    async with open_ledger(settings) as ledger, get_client() as client:
        await ledger.keep([EVERYTHING])
        flow = await client.create_flow_from_name("resting")
        deployment = await client.create_deployment(
            flow, "resting", work_pool_name="docker", enforce_parameter_schema=False
        )
        yield Jobs(client, deployment, settings, ledger)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for seconds waits less."""
    monkeypatch.setattr(detector, "_SETTLED", 0.2)
    monkeypatch.setattr(detector, "_PUBLISHED", 0.2)


async def test_completed(jobs: Jobs) -> None:
    job = await jobs.submit_job(tags=["user:anna"])
    folder = jobs.publish(job)
    await jobs.set(job, Running(), Completed())
    end = await jobs.end(job, jobs.detector())
    assert isinstance(end, JobCompleted)
    assert (end.location, end.files, end.bytes) == (str(folder), 2, 10)
    assert (end.task, end.results_directory, end.tags) == ("resting", DIRECTORY, ["user:anna"])
    assert end.attempts == 1
    assert 0 <= end.waited < 600
    assert 0 < end.ran < 600
    assert len(jobs.wrote) == 1


async def test_failed(jobs: Jobs, soon: None) -> None:
    job = await jobs.submit_job()
    await jobs.set(job, Running(), Failed(message="no such source:\n  put files there"))
    end = await jobs.end(job, jobs.detector())
    assert isinstance(end, JobFailed)
    assert end.reason == "no such source: put files there"


async def test_cancelled_before_it_began(jobs: Jobs, soon: None) -> None:
    job = await jobs.submit_job()
    await jobs.set(job, Cancelled(message="cancelled"))
    end = await jobs.end(job, jobs.detector())
    assert isinstance(end, JobCancelled)
    assert (end.reason, end.ran) == ("cancelled", 0)


async def test_a_failure_that_turns_out_to_have_published_is_none(jobs: Jobs) -> None:
    job = await jobs.submit_job()
    await jobs.set(job, Running(), Failed(message="time limit"))
    look = jobs.detector()
    await look.look()
    jobs.publish(job)
    await jobs.set(job, Completed(message="its result stands; after that, time limit"))
    assert isinstance(await jobs.end(job, look), JobCompleted)


async def test_a_crash_is_no_end_and_its_next_attempt_is(jobs: Jobs, soon: None) -> None:
    job = await jobs.submit_job()
    await jobs.set(job, Running(), Crashed())
    look = jobs.detector()
    await look.look()
    second = await jobs.submit_job(job, 2)
    await look.look()
    jobs.publish(job)
    await jobs.set(second, Running(), Completed())
    end = await jobs.end(job, look)
    assert isinstance(end, JobCompleted)
    tried = [await jobs.client.read_flow_run(run) for run in (job, second)]
    assert end.attempts == 2
    assert end.ran == pytest.approx(sum(run.total_run_time.total_seconds() for run in tried))
    assert tried[0].start_time is not None
    assert tried[0].expected_start_time is not None
    waited = (tried[0].start_time - tried[0].expected_start_time).total_seconds()
    assert end.waited == pytest.approx(max(0, waited))


async def test_a_crash_that_is_given_up_is_a_failure(jobs: Jobs, soon: None) -> None:
    # The time of its end stays that of the crash, which may be long ago.
    job = await jobs.submit_job()
    await jobs.set(job, Running(), Crashed())
    look = jobs.detector()
    await look.look()
    crashed = (await jobs.client.read_flow_run(job)).end_time
    await jobs.set(job, Failed(message="given up after 5 attempts"))
    end = await jobs.end(job, look)
    run = await jobs.client.read_flow_run(job)
    assert run.end_time == crashed
    assert isinstance(end, JobFailed)
    assert run.state is not None
    assert end.ended == run.state.timestamp


@pytest.mark.parametrize("last", [Failed(), Cancelled()], ids=["failed", "cancelled"])
async def test_what_another_attempt_has_taken_over_is_no_end(
    jobs: Jobs, soon: None, last: State[Any]
) -> None:
    job = await jobs.submit_job()
    second = await jobs.submit_job(job, 2)
    await jobs.set(job, Running(), last)
    marked = await jobs.submit_job()
    await jobs.client.update_flow_run_labels(marked, {REQUEUED_AS_LABEL: str(uuid4())})
    await jobs.set(marked, Running(), last)
    plain = await jobs.submit_job()
    await jobs.set(plain, Running(), last)
    look = jobs.detector()
    await jobs.end(plain, look)
    assert set(await jobs.ends()) == {plain}
    await jobs.set(second, Cancelled(message="cancelled"))
    assert isinstance(await jobs.end(job, look), JobCancelled)


async def test_one_that_was_put_back_in_its_queue_ends_later(jobs: Jobs, soon: None) -> None:
    job = await jobs.submit_job()
    look = jobs.detector()
    await jobs.set(job, Running(), Crashed())
    await look.look()
    await jobs.set(job, Scheduled(), Running())
    before = await jobs.submit_job()
    await jobs.set(before, Cancelled())
    await jobs.end(before, look)
    assert set(await jobs.ends()) == {before}
    jobs.publish(job)
    await jobs.set(job, Completed())
    assert isinstance(await jobs.end(job, look), JobCompleted)


async def test_a_failed_job_that_is_retried_in_the_ui_ends_again(jobs: Jobs, soon: None) -> None:
    job = await jobs.submit_job()
    await jobs.set(job, Running(), Failed(message="no such source"))
    look = jobs.detector()
    first = await jobs.end(job, look)
    ((before, _),) = await jobs.ledger.due("all", 10)
    # As the button Retry does.
    await jobs.set(job, Scheduled(name="AwaitingRetry"), Running())
    await look.look()
    assert await jobs.ends() == {job: first}, "nothing is said while it runs"
    jobs.publish(job)
    await jobs.set(job, Completed())
    look.forget_what_was_seen()  # as the event of its end does
    async with asyncio.timeout(240):
        while (await jobs.ends()) == {job: first}:
            await look.look()
    end = (await jobs.ends())[job]
    assert isinstance(end, JobCompleted)
    assert (first.revision, end.revision) == (1, 2)
    ((after, _),) = await jobs.ledger.due("all", 10)
    assert after.id != before.id, "a receiver takes it for another message"
    (unannounced,) = await jobs.ledger.unannounced(10)
    assert unannounced.event == end
    # Completed stays so, and is notified once.
    await jobs.set(job, Scheduled(name="AwaitingRetry"), Running(), Completed())
    last = await jobs.submit_job()
    await jobs.set(last, Cancelled())
    another = jobs.detector()
    await jobs.end(last, another)
    assert (await jobs.ends())[job] == end


async def test_a_retry_that_fails_is_notified_once_and_a_later_attempt_counts(
    jobs: Jobs, soon: None
) -> None:
    job = await jobs.submit_job()
    await jobs.set(job, Running(), Failed(message="first"))
    look = jobs.detector()
    first = await jobs.end(job, look)
    await jobs.set(job, Scheduled(name="AwaitingRetry"), Running(), Crashed())
    second = await jobs.submit_job(job, 2)
    await jobs.set(second, Running(), Failed(message="second"))
    for one in (look, jobs.detector()):
        one.forget_what_was_seen()
        async with asyncio.timeout(240):
            while (await jobs.ends())[job] == first:
                await one.look()
    end = (await jobs.ends())[job]
    assert isinstance(end, JobFailed)
    assert (end.revision, end.reason) == (2, "second")
    assert end.event_id != first.event_id


async def test_completed_without_a_result_is_a_failure(jobs: Jobs, soon: None) -> None:
    job = await jobs.submit_job()
    await jobs.set(job, Completed())
    end = await jobs.end(job, jobs.detector())
    assert isinstance(end, JobFailed)
    assert "no result" in end.reason


async def test_a_result_that_comes_into_sight_late_is_waited_for(jobs: Jobs) -> None:
    job = await jobs.submit_job()
    await jobs.set(job, Completed())
    look = jobs.detector()
    await look.look()
    assert await jobs.ends() == {}
    jobs.publish(job)
    assert isinstance(await jobs.end(job, look), JobCompleted)


async def test_a_manifest_that_cannot_be_read_is_a_failure(jobs: Jobs) -> None:
    job = await jobs.submit_job()
    (jobs.publish(job) / "manifest.json").write_text("{")
    await jobs.set(job, Completed())
    end = await jobs.end(job, jobs.detector())
    assert isinstance(end, JobFailed)
    assert "manifest.json" in end.reason


async def test_a_run_that_is_no_job_and_one_that_was_deleted_are_left_alone(
    jobs: Jobs, soon: None
) -> None:
    other = await jobs.submit_job(parameters={"name": "x"})
    deleted = await jobs.submit_job()
    for run in (other, deleted):
        await jobs.set(run, Failed())
    look = jobs.detector()
    await look.look()
    await jobs.client.delete_flow_run(deleted)
    job = await jobs.submit_job()
    await jobs.set(job, Failed())
    await jobs.end(job, look)
    # The platform is that of other tests too, whose jobs may end meanwhile.
    assert {other, deleted, job}.intersection(await jobs.ends()) == {job}


async def test_one_that_is_started_again_goes_on_where_the_other_was(
    jobs: Jobs, soon: None
) -> None:
    decided, undecided, later = [await jobs.submit_job() for _ in range(3)]
    first = jobs.detector()
    await jobs.set(undecided, Running(), Crashed())
    await jobs.set(decided, Failed())
    await jobs.end(decided, first)
    await jobs.set(later, Failed())
    await jobs.set(undecided, Failed(message="given up"))
    second = jobs.detector()
    await jobs.end(later, second)
    await jobs.end(undecided, second)
    assert set(await jobs.ends()) == {decided, undecided, later}


async def test_what_ended_before_the_books_were_begun_is_not_reported(
    jobs: Jobs, soon: None, tmp_path: Path
) -> None:
    old = await jobs.submit_job()
    await jobs.set(old, Failed())
    settings = Settings(home=tmp_path / "another")
    async with open_ledger(settings) as ledger:
        await ledger.keep([EVERYTHING])
        new = await jobs.submit_job()
        await jobs.set(new, Failed())
        fresh = Jobs(jobs.client, jobs.deployment, settings, ledger)
        await fresh.end(new, fresh.detector())
        assert set(await fresh.ends()) == {new}


async def test_pages_and_no_end_is_missed_or_read_twice(
    jobs: Jobs, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "PAGE", 3)
    some = [await jobs.submit_job() for _ in range(10)]
    for job in some:
        jobs.publish(job)
        await jobs.set(job, Completed())
    look = jobs.detector()
    asked = _count_reads(jobs.client, monkeypatch)
    await jobs.end(some[0], look)
    assert set(await jobs.ends()) == set(some)
    asked.clear()
    await look.look()
    assert len(asked) == 1, "what is known is not asked for again"


def _count_reads(client: PrefectClient, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the answers to come."""
    sizes: list[int] = []
    read: Callable[..., Awaitable[list[Any]]] = client.read_flow_runs

    async def counted(**fields: Any) -> list[Any]:
        page = await read(**fields)
        sizes.append(len(page))
        return page

    monkeypatch.setattr(client, "read_flow_runs", counted)
    return sizes
