"""What is news of a job, what is kept of it, and who is cut off."""

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from fastapi import HTTPException
from prefect.client.schemas.objects import StateType

from deployments.gateway.events.changes import Attempt, Moved
from deployments.gateway.events.journal import Entry, Journal
from deployments.gateway.events.known import KnownJobs
from deployments.gateway.events.streams import MOST_BEHIND, Places, Stream, Streams
from deployments.jobs.changes import JobChange
from deployments.jobs.records import JobState
from tasks.runtime.events import JobProgress

START = datetime(2026, 1, 1, tzinfo=UTC)
STATES = {
    JobState.WAITING: StateType.SCHEDULED,
    JobState.RUNNING: StateType.RUNNING,
    JobState.CRASHED: StateType.CRASHED,
    JobState.FAILED: StateType.FAILED,
    JobState.COMPLETED: StateType.COMPLETED,
}
JOB = uuid4()


def seconds(number: float) -> datetime:
    return START + timedelta(seconds=number)


def attempt(number: int = 1, job: UUID = JOB) -> Attempt:
    run = UUID(int=job.int + number)
    return Attempt(run, job, "find-primes", "a", "numbers", "normal", ("user:anna",), number)


def moved(state: JobState, at: float, message: str = "") -> Moved:
    return Moved(STATES[state], state, seconds(at), message)


def change(number: int) -> JobChange:
    return moved(JobState.RUNNING, number).change(attempt(), None, seconds(number))


@pytest.fixture
def heard() -> list[JobChange]:
    return []


@pytest.fixture
def known(heard: list[JobChange]) -> KnownJobs:
    class Recorded(Streams):
        def publish(self, entry: Entry) -> None:
            heard.append(entry.change)

    return KnownJobs(Journal(None), Recorded(Places(1, 1)))


async def test_a_crash_that_is_repeated_is_no_end(known: KnownJobs, heard: list[JobChange]) -> None:
    for number, state, at in (
        (1, JobState.RUNNING, 1),
        (1, JobState.CRASHED, 2),
        (2, JobState.WAITING, 3),
        (1, JobState.FAILED, 4),  # the supervisor of a lost host is late
        (2, JobState.RUNNING, 5),
        (2, JobState.RUNNING, 5),  # the websocket and the query both tell of it
        (2, JobState.WAITING, 3),
        (2, JobState.COMPLETED, 6),
        (1, JobState.RUNNING, 7),
    ):
        known.learn(attempt(number), moved(state, at), seconds(at))
    assert [(each.attempt, each.state, each.outcome) for each in heard] == [
        (1, "running", None),
        (1, "crashed", None),
        (2, "waiting", None),
        (2, "running", None),
        (2, "completed", "completed"),
    ]


async def test_a_failure_is_final_where_nothing_corrects_it(
    known: KnownJobs, heard: list[JobChange]
) -> None:
    known.learn(attempt(), moved(JobState.FAILED, 0, "no such file"), seconds(0))
    known.learn(attempt(), moved(JobState.FAILED, 0, "no such file"), seconds(1))
    assert [each.outcome for each in heard] == [None]
    known.learn(attempt(), moved(JobState.FAILED, 0, "no such file"), seconds(4))
    assert [(each.outcome, each.text) for each in heard[1:]] == [("failed", "no such file")]
    other = attempt(job=uuid4())
    known.learn(other, moved(JobState.FAILED, 0), seconds(0))
    known.learn(other, moved(JobState.COMPLETED, 1), seconds(1))
    assert [each.outcome for each in heard[2:]] == [None, "completed"]


async def test_progress_goes_on_and_never_back(known: KnownJobs, heard: list[JobChange]) -> None:
    def progress(fraction: float, number: int = 1) -> None:
        event = JobProgress(
            job=JOB,
            task="find-primes",
            name="a",
            results_directory="numbers",
            attempt=number,
            fraction=fraction,
            text="half",
        )
        known.progress(event, seconds(9))

    progress(0.1)  # of a job of which nothing is known
    known.learn(attempt(), moved(JobState.RUNNING, 1), seconds(1))
    for fraction in (0.5, 0.5, 0.3):
        progress(fraction)
    progress(0.6, number=2)
    known.learn(attempt(), moved(JobState.RUNNING, 1), seconds(5))
    known.learn(attempt(), moved(JobState.CRASHED, 10), seconds(10))
    known.learn(attempt(2), moved(JobState.RUNNING, 11), seconds(11))
    assert [(each.state, each.fraction) for each in heard] == [
        ("running", 0.0),
        ("running", 0.5),
        ("crashed", 0.5),
        ("running", 0.0),
    ]


async def test_what_was_there_before_is_no_news(known: KnownJobs, heard: list[JobChange]) -> None:
    known.learn(attempt(), moved(JobState.RUNNING, 1), seconds(1), is_news=False)
    assert heard == []
    known.learn(attempt(), moved(JobState.COMPLETED, 2), seconds(2), is_news=False)
    assert [each.state for each in heard] == ["completed"]


def test_a_journal_is_read_again_by_the_next_gateway(tmp_path: Path) -> None:
    file = tmp_path / "gateway" / "events.jsonl"
    first = Journal(file)
    first.open()
    cursors = [first.head]
    for number in range(3):
        cursors.append(first.add(attempt().run, seconds(number), change(number)).cursor)
    first.complete(seconds(9))
    beside = Journal(file)
    beside.open()
    assert beside.after(cursors[1]) is None, "the first still has the file"
    with file.open("ab") as opened:
        opened.write(b'{"number": 4, "ru')  # killed while it wrote
    read = Journal(file)
    read._read(file)  # pyright: ignore[reportPrivateUsage]  # the lock goes with the process
    assert [entry.cursor for entry in read.after(cursors[1]) or []] == cursors[2:]
    assert read.after(cursors[3]) == []
    assert read.complete_until == seconds(9)
    assert file.stat().st_mode & 0o77 == 0


@pytest.mark.parametrize("text", [b"", b"x", b"[]\n", b'{"epoch": 1}\n', b'{"epoch": "a"'])
def test_a_file_that_is_no_journal(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "events.jsonl"
    file.write_bytes(text)
    journal = Journal(file)
    journal.open()
    assert journal.after(journal.head) == []


def test_a_full_disk(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    journal = Journal(file)
    journal._file = file  # pyright: ignore[reportPrivateUsage]
    journal._opened = os.open("/dev/full", os.O_WRONLY)  # pyright: ignore[reportPrivateUsage]
    cursor = journal.add(attempt().run, START, change(1)).cursor
    assert journal.after(cursor) == []
    assert not file.exists(), "the next gateway begins anew"


def test_old_changes_are_dropped(tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    journal = Journal(file, most=2)
    journal.open()
    cursors = [journal.add(attempt().run, seconds(n), change(n)).cursor for n in range(20)]
    assert journal.after(cursors[-4]) is None
    assert [entry.cursor for entry in journal.after(cursors[-3]) or []] == cursors[-2:]
    assert len(file.read_text().splitlines()) <= 5
    journal.renew()
    assert journal.after(cursors[-1]) is None


async def test_a_slow_client_is_cut_off() -> None:
    stream = Stream("anna", lambda _: True)
    for number in range(2 * MOST_BEHIND):
        stream.put(str(number).encode())
    messages = stream.messages(lambda: True)
    async with asyncio.timeout(60):
        assert [message async for message in messages] == []
    entry = Journal(None).add(attempt().run, START, change(1))
    ends = Stream("anna", lambda _: True, ends_with_job=True)
    ends.take(entry)
    ends.end()
    async with asyncio.timeout(60):
        assert [message async for message in ends.messages(lambda: True)] == [entry.message]


def refused(act: Callable[[], None]) -> int:
    with pytest.raises(HTTPException) as error:
        act()
    return error.value.status_code


def test_places_are_bounded() -> None:
    places = Places(most_of_user=2, most=3)
    for user in ("anna", "anna", "bob"):
        places.admit(user)
        places.take(user)
    assert refused(lambda: places.admit("anna")) == 429
    assert refused(lambda: places.admit("bob")) == 503
    places.free("anna")
    places.admit("bob")
