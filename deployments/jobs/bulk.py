"""Submit thousands of jobs at once, in the order given, each exactly once."""

import asyncio
import http
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowFilter,
    FlowFilterId,
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterIdempotencyKey,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.exceptions import PrefectHTTPStatusError

from deployments.jobs.dependencies.after import EVERYTHING, Dependencies, Rights, prepare
from deployments.jobs.request import Terms, check_against_schema, check_key
from deployments.jobs.submit import REFUSED, find_deployment, submit_job
from tasks.errors import InvalidPayload, KeyTaken, ServerUnavailable
from tasks.prefect_api.pages import PAGE
from tasks.prefect_api.transient import is_transient

_AT_ONCE = 100  # jobs in one request: they occupy the server for half a second
_LARGEST = 2**20  # characters of parameters in one request: proxies limit its size
_AT_ONCE_BY_PREFECT = 25  # its endpoint takes up to 100, and locks SQLite meanwhile
# The answer of a server without our endpoint, or of a proxy that admits only Prefect's API.
_NO_ENDPOINT = (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.METHOD_NOT_ALLOWED)
# Seconds between attempts at a batch while SQLite is locked. Single requests would be slower:
# Prefect's client pauses for two seconds or more at each 503.
_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, 4.0)
_JUST_BEFORE = timedelta(microseconds=1)


async def submit_many(
    client: PrefectClient,
    terms: Terms,
    payloads: Sequence[Mapping[str, Any]],
    key: str | None = None,
    rights: Rights = EVERYTHING,
) -> list[UUID]:
    """Submit a job for each payload. Returns their ids, in the order of payloads and of the queue.

    All payloads are checked before the first is submitted. With a key, jobs that were submitted
    with it before are not submitted again: the same call continues an interrupted one. Raises
    InvalidPayload, which names the payload by its number from 1, KeyTaken, the errors of the
    rights, and ServerUnavailable, which says how many were submitted and with which key to
    continue.
    """
    if key is not None:
        check_key(key)
    deployment = await find_deployment(client, terms)
    bulk = _Bulk(client, terms, deployment, payloads, key, rights)
    await bulk.prepare()
    if key is not None:
        await bulk.find_submitted()
    bulk.check()
    for batch in bulk.batches():
        await bulk.submit_batch(batch)
    return bulk.jobs


@dataclass(frozen=True)
class _Created:
    """A job that the server has."""

    id: UUID
    due: datetime | None = None
    """The time it is due; not read where no job before it is missing."""


class _Bulk:
    """Jobs on the same terms, and which of them the server has."""

    def __init__(
        self,
        client: PrefectClient,
        terms: Terms,
        deployment: DeploymentResponse,
        payloads: Sequence[Mapping[str, Any]],
        key: str | None,
        rights: Rights,
    ) -> None:
        self._client = client
        self._terms = terms
        self._deployment = deployment
        self._key = key or str(uuid4())
        self._rights = rights
        self._is_new = key is None  # then no earlier call can have submitted any of them
        self._created: dict[int, _Created] = {}
        self._has_our_endpoint = True  # until the server answers that it does not
        self.parameters: list[dict[str, Any]] = []
        for index, payload in enumerate(payloads):
            try:
                self.parameters.append(terms.parameters(payload))
                check_against_schema(self.parameters[-1], deployment)
            except InvalidPayload as error:
                raise InvalidPayload(f"payload {index + 1} of {len(payloads)}: {error}") from error
        self._after: list[Dependencies] = []

    async def prepare(self) -> None:
        """Check the sources, and find what the jobs wait for."""
        prepared = await prepare(
            self._client,
            [parameters["payload"] for parameters in self.parameters],
            self._deployment,
            self._rights,
            self._terms.after,
            after_ended=self._terms.after_ended,
        )
        for parameters, each in zip(self.parameters, prepared, strict=True):
            parameters["payload"] = each.payload
        self._after = [each.dependencies for each in prepared]
        # It knows neither labels nor other states.
        self._has_our_endpoint &= not any(each.labels for each in self._after)

    def check(self) -> None:
        """Raise InvalidPayload where a job that is not submitted yet can never run."""
        for index in self._missing(range(len(self.parameters))):
            self._after[index].check(f"payload {index + 1} of {len(self.parameters)}: ")

    @property
    def jobs(self) -> list[UUID]:
        return [self._created[index].id for index in range(len(self.parameters))]

    async def find_submitted(self) -> None:
        """Find the jobs that an earlier call has submitted."""
        count = len(self.parameters)
        for start in range(0, count, PAGE):
            await self._find(range(start, min(start + PAGE, count)))
        if await self._read([self._key_of(count)]):
            raise KeyTaken(
                f"key '{self._key}' names more than these {count} jobs: choose another key, or "
                "submit the same payloads"
            )

    def batches(self) -> Iterator[range]:
        """The indices of the jobs in order, in batches that fit in one request."""
        start = size = 0
        for index, parameters in enumerate(self.parameters):
            length = len(json.dumps(parameters))
            if index - start == _AT_ONCE or (index > start and size + length > _LARGEST):
                yield range(start, index)
                start, size = index, 0
            size += length
        if self.parameters:
            yield range(start, len(self.parameters))

    async def submit_batch(self, batch: range) -> None:
        """Submit the jobs of a batch that the server does not have."""
        if not self._missing(batch):
            return
        try:
            for pause in _PAUSES:
                await self._create_all(batch)
                if not self._missing(batch):
                    return
                await asyncio.sleep(pause)
            # Submitted singly, a refused job gives its reason.
            for index in self._missing(batch):
                await self._create_one(batch, index)
            await self._find(batch)
        except httpx.HTTPError as error:
            if not is_transient(error):
                raise
            raise self._interrupted() from error
        if self._missing(batch):
            raise self._interrupted()

    async def _create_all(self, batch: range) -> None:
        try:
            ids = await self._create_at_once(batch) or await self._create_by_prefect(batch)
        except PrefectHTTPStatusError as error:
            if error.response.status_code not in REFUSED:
                raise
            ids = []
        if self._is_new and ids:
            self._created |= zip(self._missing(batch), map(_Created, ids), strict=True)
        else:
            await self._find(batch)

    async def _create_at_once(self, batch: range) -> list[UUID]:
        """Create the missing jobs of a batch with the endpoint of `prefecture up`'s server.

        Returns their ids; none where the server has no such endpoint.
        """
        if not self._has_our_endpoint:
            return []
        jobs = [
            {
                "parameters": self.parameters[index],
                "idempotency_key": self._key_of(index),
                "due": due and due.isoformat(),
            }
            for index, due in self._places(batch)
        ]
        try:
            answer = await self._post("create_jobs", self._terms.common | {"jobs": jobs})
        except PrefectHTTPStatusError as error:
            if error.response.status_code not in _NO_ENDPOINT:
                raise
            self._has_our_endpoint = False
            return []
        return [UUID(id) for id in answer]

    async def _create_by_prefect(self, batch: range) -> list[UUID]:
        """Create them with Prefect's own endpoint. Returns no ids unless this call created all."""
        requests, answers = self._requests(batch), list[dict[str, Any]]()
        for start in range(0, len(requests), _AT_ONCE_BY_PREFECT):
            some = requests[start : start + _AT_ONCE_BY_PREFECT]
            answers += (await self._post("create_flow_run/bulk", some))["results"]
        if not self._is_new or not await self._all_exist(answers):
            return []
        return [UUID(each["flow_run_id"]) for each in answers]

    async def _post(self, action: str, body: Any) -> Any:
        response = await self._client.request(
            "POST",
            f"/deployments/{{id}}/{action}",  # pyright: ignore[reportArgumentType]  # an endpoint that the client does not list
            path_params={"id": self._deployment.id},
            json=body,
        )
        return response.json()

    async def _all_exist(self, answers: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the server has created all runs of its answers.

        The answers alone are not reliable: where SQLite was locked they are 200 and FAILED, and a
        run that is reported as CREATED may have been rolled back. Counting costs less than reading.
        """
        ids = [UUID(each["flow_run_id"]) for each in answers if each["status"] == "CREATED"]
        if len(ids) < len(answers):
            return False
        there = FlowRunFilter(id=FlowRunFilterId(any_=ids))
        return await self._client.count_flow_runs(flow_run_filter=there) == len(ids)

    async def _create_one(self, batch: range, index: int) -> None:
        body = self._requests(batch)[0]
        try:
            run = await submit_job(self._client, self._deployment, body)
        except InvalidPayload as error:
            raise InvalidPayload(
                f"payload {index + 1} of {len(self.parameters)}: {error}; "
                f"{len(self._created)} were submitted: correct it, and call again with key "
                f"'{self._key}'"
            ) from error
        self._created[index] = _Created(run.id, run.expected_start_time)

    def _requests(self, batch: range) -> list[dict[str, Any]]:
        """The requests to Prefect's API that create the missing jobs of a batch."""
        requests: list[dict[str, Any]] = []
        for index, due in self._places(batch):
            body = self._terms.body(self.parameters[index], self._key_of(index))
            body["enforce_parameter_schema"] = False  # checked here: saves a tenth of the time
            if due is not None:
                details = {"scheduled_time": due.isoformat()}
                body["state"] = {"type": "SCHEDULED", "state_details": details}
            requests.append(body | self._after[index].fields)
        return requests

    def _places(self, batch: range) -> list[tuple[int, datetime | None]]:
        """The missing jobs of a batch, each with the time it is due.

        None is the end of the queue. A job that precedes existing ones is due just before them.
        """
        places: list[tuple[int, datetime | None]] = []
        due = None
        for index in reversed(batch):
            if index in self._created:
                due = self._created[index].due
                continue
            if due is not None:
                due -= _JUST_BEFORE
            places.append((index, due))
        return places[::-1]

    async def _find(self, batch: range) -> None:
        """Find which jobs of a batch the server has. Raises KeyTaken where one of them differs."""
        keys = {self._key_of(index): index for index in self._missing(batch)}
        for run in await self._read(keys):
            index = keys[str(run.idempotency_key)]
            self._terms.compare(
                self.parameters[index],
                run,
                self._deployment,
                f"{self._key}, payload {index + 1}",
                self._after[index].labels,
            )
            self._created[index] = _Created(run.id, run.expected_start_time)

    async def _read(self, keys: Iterable[str]) -> list[FlowRun]:
        return await self._client.read_flow_runs(
            flow_filter=FlowFilter(id=FlowFilterId(any_=[self._deployment.flow_id])),
            flow_run_filter=FlowRunFilter(
                idempotency_key=FlowRunFilterIdempotencyKey(any_=list(keys))
            ),
        )

    def _missing(self, batch: range) -> list[int]:
        return [index for index in batch if index not in self._created]

    def _key_of(self, index: int) -> str:
        return f"submit-many:{self._rights.owner}{self._key}:{index}"

    def _interrupted(self) -> ServerUnavailable:
        return ServerUnavailable(
            f"{len(self._created)} of {len(self.parameters)} jobs were submitted before the "
            f"Prefect server stopped answering: call again with key '{self._key}' and the rest is "
            "submitted, none of them twice"
        )
