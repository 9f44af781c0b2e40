"""The senders of requests: flow runs of deployments that start containers."""

import asyncio
import hashlib
import logging
import re
import ssl
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import httpx
from pydantic import BaseModel, ValidationError

from tasks.containers.broker.http import Refused
from tasks.contracts import (
    RUN_HEADER,
    GenerateData,
    RunContainer,
    engine_task,
    job_id,
    size_in_bytes,
)

_KNOWN_FOR = 5.0  # seconds between two questions about one run
_MOST_KNOWN = 1024  # runs
_TRUSTED_FOR = 3600.0  # seconds that an answer counts while the server does not answer
_MOST_QUESTIONS = 8  # at a time, of senders that are not known
_MOST_WAITING = 512  # senders for one of these
_LONGEST = 30.0  # seconds that such a sender waits for the answer
_FINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A flow run that may start containers, and what its payload asks for them."""

    id: UUID
    job: UUID
    is_over: bool
    """Whether its state is final: then it can only remove what it has made."""
    memory: int
    """Bytes of each container, at most."""
    cpus: float
    network: str
    """none, or bridge."""
    containers: int = 1
    """How many at once."""


class Runs(Protocol):
    """Finds the flow run that sends a request."""

    async def of(self, headers: Mapping[str, str]) -> Run:
        """The run that sends a request with these headers. Raises Refused where none may."""
        ...


class RunsOfApi:
    """Finds flow runs on a Prefect server, which it asks with the token of the request.

    So the server checks the token, and the broker needs no password. While the server does not
    answer, its last answer counts, for an hour. About tokens that it does not know, made up
    perhaps, it asks in turn, and for 30 s at most.
    """

    def __init__(self, api: str, certificates: str | bool) -> None:
        """`api`: its address; `certificates`: see api_certificates."""
        file = certificates if isinstance(certificates, str) else None
        verify = ssl.create_default_context(cafile=file) if certificates else False
        self._client = httpx.AsyncClient(base_url=api, verify=verify, timeout=10)
        self._known: OrderedDict[tuple[str, bytes], _Answer] = OrderedDict()
        self._questions = asyncio.Semaphore(_MOST_QUESTIONS)
        self._waiting = 0

    async def of(self, headers: Mapping[str, str]) -> Run:
        """See Runs."""
        id, token = headers.get(RUN_HEADER.lower(), ""), headers.get("authorization", "")
        if not _ID.fullmatch(id):
            raise Refused(401, f"the header {RUN_HEADER} names no flow run")
        key = id, hashlib.sha256(token.encode()).digest()
        known, now = self._known.get(key), time.monotonic()
        if known is not None and now - known.at < _KNOWN_FOR:
            return known.run
        given = {"Authorization": token} if token else {}
        try:
            run = await (self._read(id, given) if known else self._read_in_turn(id, given))
        except _Unanswered as error:
            if known is not None and now - known.at < _TRUSTED_FOR:
                return known.run
            raise Refused(503, f"the Prefect server does not answer: {error}") from None
        except Refused:
            self._known.pop(key, None)
            raise
        self._known[key] = _Answer(time.monotonic(), run)
        self._known.move_to_end(key)
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return run

    async def _read_in_turn(self, id: str, headers: Mapping[str, str]) -> Run:
        if self._waiting >= _MOST_WAITING:
            raise Refused(429, "too many senders are not known yet")
        self._waiting += 1
        try:
            async with asyncio.timeout(_LONGEST), self._questions:
                return await self._read(id, headers)
        except TimeoutError:
            raise Refused(503, "too many senders are not known yet: ask again later") from None
        finally:
            self._waiting -= 1

    async def _read(self, id: str, headers: Mapping[str, str]) -> Run:
        found = _FlowRun.model_validate(await self._get(f"/flow_runs/{id}", headers))
        path = f"/deployments/{found.deployment_id}"
        deployment = _Deployment.model_validate(await self._get(path, headers))
        task = engine_task(deployment.entrypoint, deployment.pull_steps)
        if task is None:
            raise Refused(403, "its deployment is none of those that start containers")
        return run_of(found, task)

    async def _get(self, path: str, headers: Mapping[str, str]) -> Any:
        try:
            response = await self._client.get(path, headers=headers)
        except httpx.HTTPError as error:
            raise _Unanswered(type(error).__name__) from None
        if response.status_code >= 500 or response.status_code == 429:
            raise _Unanswered(str(response.status_code))
        if response.status_code != 200:
            raise Refused(403, "the token is not that of a flow run that goes on")
        return response.json()


class _Answer(NamedTuple):
    """What the server said of a run, and when."""

    at: float
    run: Run


class _Unanswered(Exception):
    pass


class _FlowRun(BaseModel):
    id: UUID
    state_type: str | None = None
    deployment_id: UUID | None = None
    labels: dict[str, Any] = {}
    parameters: dict[str, Any] = {}


class _Deployment(BaseModel):
    entrypoint: str | None = None
    pull_steps: list[dict[str, Any]] | None = None


def run_of(found: _FlowRun, task: str) -> Run:
    """The run that the server describes. Raises Refused where its payload does not fit its task."""
    kind = GenerateData if task == "generate-data" else RunContainer
    try:
        payload = kind.model_validate(found.parameters.get("payload"))
    except ValidationError:
        raise Refused(403, "its payload does not fit its task") from None
    return Run(
        id=found.id,
        job=job_id(found.labels, found.id),
        is_over=found.state_type in _FINAL,
        memory=size_in_bytes(payload.memory),
        cpus=payload.cpus,
        network=payload.network,
        containers=payload.containers if isinstance(payload, GenerateData) else 1,
    )
