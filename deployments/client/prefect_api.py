"""Jobs by Prefect's API, for who has its password."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient

from deployments.client.interface import CANCEL_MARGIN, FoundResult, JobEnded
from deployments.connection import connect
from deployments.jobs import bulk, cancel, finished, following, hold, logs, move, results
from deployments.jobs import submit as single
from deployments.jobs.queries import catalog, explain, listing
from deployments.jobs.queries.selection import Selection
from deployments.jobs.queries.short_ids import resolve_job
from deployments.jobs.records import ComputeTask, Explanation, Line, Listing, Progress
from deployments.jobs.request import Terms
from tasks.contracts import Manifest
from tasks.settings import get_settings
from tasks.storage.results.interface import Result


class StoredResult(FoundResult):
    """A result in the results root of this host's settings."""

    def __init__(self, result: Result) -> None:
        self._result = result

    @property
    def manifest(self) -> Manifest:
        """The manifest of the result."""
        return self._result.manifest

    @property
    def location(self) -> str:
        """The folder or the s3:// address."""
        return self._result.location

    @property
    def links(self) -> Sequence[str]:
        """Links into S3."""
        return self._result.links()

    async def check(self) -> bool:
        """Read every file."""
        await results.read_result(self._result, None)
        return True

    async def copy(self, to: Path) -> None:
        """Copy every file, and read the copies."""
        await results.read_result(self._result, to)


class ServerJobs:
    """The jobs of a Prefect server."""

    def __init__(self, client: PrefectClient) -> None:
        self._client = client

    async def submit(self, terms: Terms, payload: Mapping[str, Any], key: str | None) -> UUID:
        """Submit a job."""
        return await single.submit(self._client, terms, payload, key)

    async def submit_many(
        self, terms: Terms, payloads: Sequence[Mapping[str, Any]], key: str | None
    ) -> list[UUID]:
        """Submit a job for each payload."""
        return await bulk.submit_many(self._client, terms, payloads, key)

    async def resolve(self, job: str) -> UUID:
        """The id that a text names."""
        return await resolve_job(self._client, job)

    async def progress(self, job: UUID) -> Progress:
        """The current progress of a job."""
        return await following.read_progress(self._client, job)

    def follow(self, job: UUID) -> AsyncGenerator[Progress]:
        """The progress of a job until it has ended."""
        return following.follow(job)

    def logs(self, job: UUID, *, follow: bool) -> AsyncGenerator[Line]:
        """The log of a job."""
        return logs.read_logs(job, follow=follow)

    async def list(self, selection: Selection, limit: int | None) -> Listing:
        """The newest jobs of a selection."""
        return await listing.list_jobs(self._client, selection, limit)

    async def explain(self, job: UUID) -> Explanation:
        """The state of a job, and the reasons for it."""
        return await explain.explain(self._client, job)

    async def tasks(self, name: str | None = None) -> "list[ComputeTask]":
        """All compute tasks, or one."""
        if name is None:
            return await catalog.list_tasks(self._client)
        return [await catalog.find_task(self._client, name)]

    async def cancel(self, job: str, *, wait: bool) -> str:
        """Cancel a job."""
        limit = get_settings().cancel_grace + CANCEL_MARGIN
        return await cancel.cancel(self._client, job, limit, wait=wait)

    async def hold(self, job: str) -> str:
        """Hold a job that waits."""
        return await hold.hold(self._client, job)

    async def release(self, job: str) -> str:
        """Let a held job start."""
        return await hold.release(self._client, job)

    async def move(self, job: str, queue: str) -> str:
        """Move a job that waits to another queue."""
        return await move.move(self._client, job, queue)

    async def restart(self, job: str) -> UUID:
        """Submit a copy of a job that has ended."""
        return await finished.restart(self._client, job)

    async def delete(self, job: str) -> str:
        """Delete a job that has ended."""
        return await finished.delete(self._client, job)

    async def result(self, job: str) -> StoredResult:
        """The result of a job."""
        return StoredResult(await results.find_result(self._client, get_settings(), job))

    async def ends(self, limit: int, *, follow: bool) -> AsyncGenerator[JobEnded]:
        """The last jobs that have ended."""
        # Imported here: the tables of notifications are of no use to other commands.
        from deployments.notifications import inbox

        if not follow:
            for end in await inbox.read_ends(self._client, limit):
                yield JobEnded(inbox.line(end), end.model_dump(mode="json"))
            return
        async with aclosing(inbox.follow_ends(self._client, limit)) as ends:
            async for end in ends:
                yield JobEnded(inbox.line(end), end.model_dump(mode="json"))


@asynccontextmanager
async def open_server() -> AsyncGenerator[ServerJobs]:
    """The jobs of the server at `deployments.connection.server_api`."""
    async with connect() as client:
        yield ServerJobs(client)
