"""Jobs from Python: plain functions and a handle.

They work in scripts, in notebooks, whose event loop runs already, and in any number of threads.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from deployments.client.interface import Jobs
from deployments.client.opening import open_jobs
from deployments.client.synchronous import run
from deployments.jobs.records import Progress
from deployments.jobs.request import Terms
from tasks.contracts import Manifest, Queue
from tasks.errors import JobCancelledError, JobFailedError, JobNotEnded


@dataclass(frozen=True)
class Result:
    """The published result of a job."""

    location: str
    """Where its files are."""
    manifest: Manifest


@dataclass(frozen=True)
class Job:
    """A handle to a submitted job. Any process that knows the id can get one: see `find_job`."""

    id: UUID

    @property
    def status(self) -> str:
        """The state, with Prefect's name: Scheduled, Pending, Running, Completed …"""
        return self.progress().state

    def progress(self) -> Progress:
        """The current progress, at the latest attempt."""

        async def look() -> Progress:
            async with open_jobs() as jobs:
                return await jobs.progress(self.id)

        return run(look())

    def wait(self, timeout: float | None = None, *, check: bool = True) -> "Job":
        """Wait until the job has ended, across its attempts, and return the job.

        `timeout` is in seconds. Raises JobFailedError or JobCancelledError with the reason, unless
        `check` is False, and JobNotEnded, which is a TimeoutError, where the time is over.
        """
        last = run(_end_of(self.id, timeout))
        if check and last.outcome == "failed":
            raise JobFailedError(f"job {self.id} has failed: {last.text}")
        if check and last.outcome == "cancelled":
            raise JobCancelledError(f"job {self.id} is Cancelled: {last.text}")
        return self

    def results(self, to: Path | str | None = None) -> Result:
        """Read the result and check every file; with `to`, copy it to that new folder.

        Raises PrefectureError where there is no result, and CorruptResult where a check fails.
        """
        folder = None if to is None else Path(to)

        async def read() -> Result:
            async with open_jobs() as jobs:
                found = await jobs.result(str(self.id))
                await (found.check() if folder is None else found.copy(folder))
            return Result(str(folder or found.location), found.manifest)

        return run(read())

    def hold(self) -> None:
        """Hold the job, which waits: it starts once it is released. Raises PrefectureError."""
        self._change(lambda jobs: jobs.hold(str(self.id)))

    def release(self) -> None:
        """Let the job start, which is held. Raises PrefectureError."""
        self._change(lambda jobs: jobs.release(str(self.id)))

    def move(self, queue: str) -> None:
        """Move the job, which waits, to another queue. Raises PrefectureError."""
        self._change(lambda jobs: jobs.move(str(self.id), queue))

    def _change(self, action: Callable[[Jobs], Awaitable[str]]) -> None:
        async def change() -> None:
            async with open_jobs() as jobs:
                await action(jobs)

        run(change())

    def cancel(self, *, wait: bool = True) -> None:
        """Cancel the job; `wait`: until it has ended. Raises PrefectureError if it had already."""

        async def end() -> None:
            async with open_jobs() as jobs:
                await jobs.cancel(str(self.id), wait=wait)

        run(end())


def submit(
    task: str,
    payload: Mapping[str, Any],
    results_directory: str,
    *,
    queue: str = Queue.NORMAL,
    tags: Iterable[str] = (),
    key: str | None = None,
    max_duration: int | None = None,
    memory: str | None = None,
    name: str | None = None,
    gpus: int | None = None,
    host_labels: Iterable[str] = (),
    after: "Iterable[Job | UUID | str]" = (),
    after_ended: bool = False,
    expires: int | None = None,
) -> Job:
    """Submit a job and return at once.

    Through a gateway, a source that is a file, folder or glob of this machine is uploaded first.
    With a `key`, the job is submitted once however often this is called: the same call returns the
    same job, and a different call with that key raises KeyTaken. `max_duration`: seconds one
    attempt may run. `memory`: such as 512m. `name`: the job's name in the UI. `after`: jobs, or ids
    or keys of jobs, that must complete before this one starts; `after_ended`: it is enough that
    they end. It waits also for the job of a source `job://<job id>/<path>`. `expires`: seconds
    after which the result may be removed. `gpus`: how many it has for itself. `host_labels`: those
    that its host must have. Raises InvalidPayload, in one line that names the field, and
    ServerUnavailable.
    """
    jobs = [str(job.id if isinstance(job, Job) else job) for job in after]
    own = (tags, max_duration, memory, name, jobs, after_ended, expires, gpus, host_labels)
    terms = Terms(task, results_directory, queue, *own)

    async def submit_job() -> UUID:
        async with open_jobs() as jobs:
            return await jobs.submit(terms, payload, key)

    return Job(run(submit_job()))


def submit_many(
    task: str,
    payloads: Iterable[Mapping[str, Any]],
    results_directory: str,
    *,
    queue: str | None = None,
    tags: Iterable[str] = (),
    key: str | None = None,
    max_duration: int | None = None,
    memory: str | None = None,
    name: str | None = None,
    gpus: int | None = None,
    host_labels: Iterable[str] = (),
    after: "Iterable[Job | UUID | str]" = (),
    after_ended: bool = False,
    expires: int | None = None,
) -> list[Job]:
    """Submit a job for each payload; they are served in this order.

    All payloads are checked before the first is submitted. With a `key`, an interrupted call can be
    repeated: only missing jobs are submitted. Raises as `submit` does; InvalidPayload names the
    payload by its number, from 1. `queue`: `normal`, or as PREFECTURE_BULK_TO_LOW says, where it is
    left out.
    """
    jobs = [str(job.id if isinstance(job, Job) else job) for job in after]
    own = (tags, max_duration, memory, name, jobs, after_ended, expires, gpus, host_labels)
    terms = Terms(task, results_directory, queue, *own)
    listed = list(payloads)  # here, in the caller's thread

    async def submit_job() -> list[UUID]:
        async with open_jobs() as jobs:
            return await jobs.submit_many(terms, listed, key)

    return [Job(id) for id in run(submit_job())]


def find_job(job: UUID | str) -> Job:
    """Find a job by its id, by that of any attempt at it, or by an unambiguous prefix.

    Raises InvalidPayload where there is no such job, or several.
    """

    async def look() -> Progress:
        async with open_jobs() as jobs:
            return await jobs.progress(await jobs.resolve(str(job)))

    return Job(run(look()).job)


async def _end_of(job: UUID, seconds: float | None) -> Progress:
    limit = asyncio.timeout(seconds)
    try:
        async with limit, open_jobs() as jobs, aclosing(jobs.follow(job)) as looks:
            return [look async for look in looks if look.outcome is not None][-1]
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise JobNotEnded(f"job {job} has not ended within {seconds:g} s: it goes on") from error
