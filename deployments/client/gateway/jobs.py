"""Jobs through a gateway, by its REST API."""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID, uuid4

from pydantic import TypeAdapter, ValidationError

from deployments.client.gateway import following
from deployments.client.gateway.downloads import GatewayResult
from deployments.client.gateway.requests import Requests, connected
from deployments.client.gateway.uploads import Say, Uploads
from deployments.client.interface import CANCEL_MARGIN, JobEnded
from deployments.gateway_login import Login
from deployments.jobs.queries.prefixes import prefix_of, the_only_one
from deployments.jobs.queries.selection import Selection
from deployments.jobs.records import (
    ENDED,
    ComputeTask,
    Explanation,
    JobRecord,
    JobState,
    Line,
    Listing,
    Progress,
)
from deployments.jobs.request import Terms, check_key, check_queue, cut
from tasks.contracts import Manifest
from tasks.errors import InvalidPayload, PrefectureError
from tasks.settings import get_settings

_PAGE = 1_000  # jobs in one answer, the most that a gateway gives
_PAYLOADS = 10_000  # in one request, the most that a gateway takes
_BULK_TIMEOUT = 600.0  # seconds: thousands of jobs take a minute and more
_POLL = 0.5  # seconds between two looks at a job that is being cancelled
_PREFIX = re.compile("[0-9a-f-]{4,}")  # of an id
_T = TypeVar("_T")


class GatewayJobs:
    """The jobs that a user's token allows."""

    def __init__(self, requests: Requests, say: Say) -> None:
        self._requests = requests
        self._uploads = Uploads(requests, say)
        self._tasks: dict[str, ComputeTask] | None = None

    async def submit(self, terms: Terms, payload: Mapping[str, Any], key: str | None) -> UUID:
        """Submit a job, after its local sources are uploaded."""
        if key is not None:
            check_key(key)
        terms = await self._with_whole_ids(terms)
        sent = await self.with_uploads(terms, payload)
        # A request whose answer was lost is sent again: without a key, that would be a second job.
        body = _body(terms, key or str(uuid4())) | {"payload": sent}
        answer = await self._requests.send("POST", "/jobs", json=body)
        return UUID(answer.json()["job"])

    async def submit_many(
        self, terms: Terms, payloads: Sequence[Mapping[str, Any]], key: str | None
    ) -> list[UUID]:
        """Submit a job for each payload, after their local sources are uploaded."""
        if key is not None:
            check_key(key)
        if len(payloads) > _PAYLOADS:
            raise InvalidPayload(
                f"{len(payloads):,} payloads are more than the {_PAYLOADS:,} that a gateway takes "
                "at once: submit them in several calls, each with a key of its own"
            )
        terms = await self._with_whole_ids(terms)
        sent = [await self.with_uploads(terms, payload) for payload in payloads]
        body = _body(terms, key or str(uuid4())) | {"payloads": sent}
        answer = await self._requests.send("POST", "/jobs/bulk", json=body, timeout=_BULK_TIMEOUT)
        return [UUID(job) for job in answer.json()["jobs"]]

    async def with_uploads(self, terms: Terms, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        """The payload as the gateway understands it."""
        (task,) = await self.tasks(terms.task)
        # As JSON, so that what is no JSON is refused before anything is uploaded.
        plain = terms.parameters(payload)["payload"]
        return await self._uploads.replaced(plain, task.schema)

    async def resolve(self, job: str) -> UUID:
        """The id that a text names: a whole id, or a prefix of one that the token may see."""
        try:
            return UUID(job)
        except ValueError:
            prefix = prefix_of(job)
        every = Selection(states=tuple(JobState))
        found = [each.job for each in (await self.list(every, None)).jobs]
        return the_only_one(job, [each for each in found if str(each).startswith(prefix)])

    async def progress(self, job: UUID) -> Progress:
        """The current progress of a job."""
        return following.progress_of(await self.explain(job))

    def follow(self, job: UUID) -> AsyncGenerator[Progress]:
        """The progress of a job until it has ended."""
        return following.follow(self._requests, job)

    def logs(self, job: UUID, *, follow: bool) -> AsyncGenerator[Line]:
        """The log of a job."""
        return following.read_logs(self._requests, job, follow=follow)

    async def list(self, selection: Selection, limit: int | None) -> Listing:
        """The newest jobs of a selection."""
        found: dict[UUID, JobRecord] = {}
        criteria, after, total = _criteria(selection), None, None
        while True:
            size = _PAGE if limit is None else min(_PAGE, limit - len(found))
            answer = await self._requests.get("/jobs", **criteria, limit=size, after=after)
            listed = parsed(Listing, answer)
            found |= {job.job: job for job in listed.jobs}
            total, after = listed.total if after is None else total, listed.next
            if listed.is_all or not after or (limit is not None and len(found) >= limit):
                # Jobs that were submitted meanwhile are not counted again.
                total = len(found) if listed.is_all else total
                return Listing([*found.values()], listed.is_all, total)

    async def explain(self, job: UUID) -> Explanation:
        """The state of a job, and the reasons for it."""
        return parsed(Explanation, await self._requests.get(f"/jobs/{job}"))

    async def tasks(self, name: str | None = None) -> "list[ComputeTask]":
        """All compute tasks, or one."""
        if self._tasks is None:
            listed = parsed(list[ComputeTask], await self._requests.get("/tasks"))
            self._tasks = {task.name: task for task in listed}
        if name is None:
            return [*self._tasks.values()]
        if name not in self._tasks:
            raise InvalidPayload(
                f"there is no compute task '{cut(name)}': choose {', '.join(self._tasks)}"
            )
        return [self._tasks[name]]

    async def cancel(self, job: str, *, wait: bool) -> str:
        """Cancel a job."""
        wanted = await self.resolve(job)
        answer = await self._requests.send("POST", f"/jobs/{wanted}/cancel")
        if not wait:
            return str(answer.json()["message"])
        clock = asyncio.get_running_loop().time
        limit = get_settings().cancel_grace + CANCEL_MARGIN
        until = clock() + limit
        while True:
            now = (await self.explain(wanted)).job
            if now.state is JobState.CANCELLED:
                return f"job {now.job} is cancelled"
            if now.state in ENDED:
                raise PrefectureError(
                    f"job {now.job} was {now.state} first: there is nothing to cancel"
                )
            if clock() > until:
                raise PrefectureError(
                    f"job {now.job} is still {now.state} after {limit:.0f} s: ask the operator of "
                    "the gateway whether the supervisor of its worker is there"
                )
            await asyncio.sleep(_POLL)

    async def hold(self, job: str) -> str:
        """Hold a job that waits."""
        return await self._changed(job, "hold")

    async def release(self, job: str) -> str:
        """Let a held job start."""
        return await self._changed(job, "release", once=True)

    async def move(self, job: str, queue: str) -> str:
        """Move a job that waits to another queue."""
        check_queue(queue)
        return await self._changed(job, "move", queue=queue)

    async def restart(self, job: str) -> UUID:
        """Submit a copy of a job that has ended."""
        wanted = await self.resolve(job)
        answer = await self._requests.send("POST", f"/jobs/{wanted}/restart", once=True)
        return UUID(answer.json()["job"])

    async def delete(self, job: str) -> str:
        """Delete a job that has ended."""
        wanted = await self.resolve(job)
        answer = await self._requests.send("DELETE", f"/jobs/{wanted}", once=True)
        return str(answer.json()["message"])

    async def delete_result(self, job: str) -> str:
        """Delete the result of a job that has ended."""
        wanted = await self.resolve(job)
        answer = await self._requests.send("DELETE", f"/jobs/{wanted}/result")
        return str(answer.json()["message"])

    async def result(self, job: str) -> GatewayResult:
        """The result of a job."""
        wanted = await self.resolve(job)
        answer = await self._requests.get(f"/jobs/{wanted}/result")
        return GatewayResult(self._requests, parsed(Manifest, answer))

    async def ends(self, limit: int, *, follow: bool) -> AsyncGenerator[JobEnded]:
        """The last jobs that have ended."""
        if not follow:
            for record in await self._ended_last(limit):
                yield following.ended(record)
            return
        async with aclosing(following.follow_ends(self._requests, limit, self._ended_last)) as ends:
            async for end in ends:
                yield end

    async def _ended_last(self, limit: int) -> "list[JobRecord]":
        """The last jobs that have ended, by when they were submitted; the first to end first."""
        if not limit:
            return []
        found = await self.list(Selection(states=ENDED), limit)
        return sorted(found.jobs, key=lambda job: job.ended.timestamp() if job.ended else 0.0)

    async def _changed(self, job: str, action: str, *, once: bool = False, **body: str) -> str:
        """Change a job. Returns its state as a sentence. `once`: twice is not the same."""
        wanted = await self.resolve(job)
        path = f"/jobs/{wanted}/{action}"
        answer = await self._requests.send("POST", path, once=once, json=body or None)
        return str(answer.json()["message"])

    async def _with_whole_ids(self, terms: Terms) -> Terms:
        """The terms with the ids of the jobs to wait for that are named by first digits. What else
        they name are keys, which the gateway knows."""
        after: list[str] = []
        for name in terms.after:
            with suppress(InvalidPayload):
                name = str(await self.resolve(name)) if _PREFIX.fullmatch(name) else name
            after.append(name)
        return replace(terms, after=after)


def fields_of(terms: Terms) -> dict[str, Any]:
    """The fields of a request that say what a job is, apart from its payload."""
    return {
        "task": terms.task,
        "results_directory": terms.results_directory,
        # Where none is named, the gateway chooses.
        **({"queue": terms.in_queue} if terms.is_queue_named else {}),
        "name": terms.name,
        "tags": list(terms.tags),
        "max_duration": terms.max_duration,
        "memory": terms.memory,
        "gpus": terms.gpus,
        "host_labels": list(terms.host_labels),
        "expires": terms.expires,
    }


def _body(terms: Terms, key: str) -> dict[str, Any]:
    """The fields of a request that are the same for all jobs on these terms."""
    waits = {"after": list(terms.after), "after_ended": terms.after_ended}
    return fields_of(terms) | {"key": key} | waits


def _criteria(selection: Selection) -> dict[str, Any]:
    """The parameters of a query for a selection."""
    return {
        "state": [str(state) for state in selection.states],
        "task": selection.task,
        "tag": list(selection.tags),
        "queue": selection.queue and str(selection.queue),
        "directory": selection.directory,
        "since": selection.since and selection.since.isoformat(),
        "until": selection.until and selection.until.isoformat(),
    }


def parsed(kind: type[_T], answer: Any) -> _T:
    """What a gateway has answered, as it is meant. Raises PrefectureError where it is not that."""
    try:
        return TypeAdapter(kind).validate_python(answer)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise PrefectureError(
            "the gateway's answer is not understood: is it of another version than this command? "
            f"({'.'.join(map(str, first['loc']))}: {first['msg']})"
        ) from error


@asynccontextmanager
async def open_gateway(login: Login, say: Say) -> AsyncGenerator[GatewayJobs]:
    """The jobs of a gateway. `say`: tells the user what is uploaded."""
    async with connected(login) as requests:
        yield GatewayJobs(requests, say)
