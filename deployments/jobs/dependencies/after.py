"""What the jobs of a request wait for: the jobs that it names, and those whose results it reads."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import DeploymentResponse

from deployments.jobs.dependencies.sources import Keys, texts_at, with_text
from deployments.jobs.queries.short_ids import resolve_job
from deployments.jobs.queries.standings import Standing, read_standings, waits_for
from deployments.jobs.request import cut, start_refusal
from tasks.contracts import (
    AFTER_ENDED_LABEL,
    AFTER_LABEL,
    WAITS_FOR_JOBS,
    JobSource,
    job_id,
)
from tasks.errors import InvalidPayload

MOST = 100
"""Jobs that one job may wait for."""
See = Callable[[UUID], Awaitable[Any]]
"""Raises an error where a user may not see a job."""
CheckSources = Callable[[Mapping[str, str]], Awaitable[Mapping[str, str]]]
"""Gets sources, each with its field in the payload. Raises an error where a user may not read one.
Returns those that can never be read, each with the reason."""


@dataclass(frozen=True)
class Rights:
    """What the user of a request may name in it."""

    owner: str = ""
    """Whose keys may name jobs; it sets the keys of several users apart."""
    see: See | None = None
    """None: the user may see all jobs."""
    sources: CheckSources | None = None
    """None: the user may read all sources."""


EVERYTHING = Rights()
"""The rights of the operator."""


@dataclass(frozen=True)
class Dependencies:
    """What one job waits for."""

    completed: tuple[UUID, ...] = ()
    """Jobs that must complete."""
    ended: tuple[UUID, ...] = ()
    """Jobs that must end."""
    waits: str = ""
    """What it waits for, in words; empty where all of it is done."""
    refusal: str = ""
    """Why it can never run; empty where it may."""

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its flow run."""
        both = {AFTER_LABEL: self.completed, AFTER_ENDED_LABEL: self.ended}
        return {label: ",".join(map(str, jobs)) for label, jobs in both.items() if jobs}

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the API request that creates its flow run.

        In a state of the type Paused no worker takes it. Its due time is that of its submission;
        what resumes it puts it at the end of its queue.
        """
        fields: dict[str, Any] = {"labels": self.labels} if self.labels else {}
        if self.waits:
            fields["state"] = {
                "type": StateType.PAUSED.value,
                "name": WAITS_FOR_JOBS,
                "message": self.waits,
                "state_details": {"pause_reschedule": True},
            }
        return fields

    def check(self, where: str = "") -> None:
        """Raise InvalidPayload where the job can never run. `where`: begins the message."""
        if self.refusal:
            raise InvalidPayload(f"{where}{self.refusal}")


@dataclass(frozen=True)
class Prepared:
    """A payload as it is submitted, and what its job waits for."""

    payload: Mapping[str, Any]
    dependencies: Dependencies


async def prepare(
    client: PrefectClient,
    payloads: Sequence[Mapping[str, Any]],
    deployment: DeploymentResponse,
    rights: Rights = EVERYTHING,
    after: Iterable[str] = (),
    *,
    after_ended: bool = False,
) -> list[Prepared]:
    """Check the sources and the start of each payload, find the jobs that its job waits for, and
    name their results in full.

    `after`, `after_ended`: as in the terms of the request. Raises InvalidPayload where a name names
    no job, or one job waits for too many; and the errors of the rights.
    """
    schema, after = deployment.parameter_openapi_schema or {}, [*after]
    texts = [dict(texts_at(payload, schema)) for payload in payloads]
    unreadable = await _unreadable(texts, rights)
    sources = [_results(each) for each in texts]
    read = {s.job: f"payload.{'.'.join(keys)}" for each in sources for keys, s in each.items()}
    fields = read | dict.fromkeys(after, "after")  # each name, with the field that has it
    names = {name: await _find(client, name, rights.owner, fields[name]) for name in fields}
    for job in dict.fromkeys(names.values()) if rights.see else ():
        await rights.see(job) if rights.see else None
    standings = await read_standings(client, names.values()) if names else {}
    by_name = {name: standings.get(job) for name, job in names.items()}
    for name, standing in by_name.items():
        if standing is None:
            raise InvalidPayload(f"{fields[name]}: no job {cut(name)} is known here")
    known = {name: standing for name, standing in by_name.items() if standing is not None}
    return [
        Prepared(
            _replaced(payload, each, known),
            _dependencies(
                [known[name] for name in after],
                [known[source.job] for source in each.values()],
                after_ended=after_ended,
                refusal=reason or start_refusal(payload),
            ),
        )
        for payload, each, reason in zip(payloads, sources, unreadable, strict=True)
    ]


async def _unreadable(texts: Sequence[Mapping[Keys, str]], rights: Rights) -> list[str]:
    """For each payload, why a source of it can never be read; empty where all may be."""
    fields = {text: ".".join(keys) for each in texts for keys, text in each.items()}
    if not fields or rights.sources is None:
        return [""] * len(texts)
    reasons = await rights.sources(fields)
    return [
        next((reasons[text] for text in each.values() if text in reasons), "") for each in texts
    ]


def _results(texts: Mapping[Keys, str]) -> dict[Keys, JobSource]:
    """The results of other jobs among the sources of a payload."""
    found = ((keys, JobSource.parse(text)) for keys, text in texts.items())
    return {keys: source for keys, source in found if source is not None}


def _replaced(
    payload: Mapping[str, Any],
    sources: Mapping[Keys, JobSource],
    standings: Mapping[str, Standing],
) -> Mapping[str, Any]:
    """A payload that says where the results will be."""
    for keys, source in sources.items():
        of = standings[source.job]
        payload = with_text(payload, keys, str(JobSource(str(of.job), source.path, of.directory)))
    return payload


def _dependencies(
    after: Sequence[Standing], read: Sequence[Standing], *, after_ended: bool, refusal: str
) -> Dependencies:
    must_complete = {each.job: each for each in ([*read] if after_ended else [*after, *read])}
    must_end = {each.job: each for each in after if after_ended and each.job not in must_complete}
    if len(must_complete) + len(must_end) > MOST:
        raise InvalidPayload(
            f"after: {len(must_complete) + len(must_end)} jobs are more than the {MOST} that one "
            "job may wait for: let a job in between wait for some of them"
        )
    left = [each for each in (*must_complete.values(), *must_end.values()) if not each.outcome]
    failed = [e for e in must_complete.values() if e.outcome not in (None, "completed")]
    if failed and not refusal:
        verb = "has failed" if failed[0].outcome == "failed" else "was cancelled"
        refusal = f"after: {failed[0]} {verb}: restart it, and name the new job"
    return Dependencies(tuple(must_complete), tuple(must_end), waits_for(left), refusal)


async def _find(client: PrefectClient, name: str, owner: str, field: str) -> UUID:
    """The id of the job that a text in a field names: an id, a user's key, or the first digits of
    an id."""
    try:
        return UUID(name)
    except ValueError:
        pass
    keyed = await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            idempotency_key=FlowRunFilterIdempotencyKey(any_=[f"submit:{owner}{name}"])
        )
    )
    if len(keyed) > 1:
        raise InvalidPayload(
            f"{field}: {len(keyed)} jobs of several tasks have the key {cut(name)!r}: name the "
            "job by its id"
        )
    if keyed:
        return job_id(keyed[0].labels, keyed[0].id)
    if owner:
        raise InvalidPayload(f"{field}: {cut(name)!r} is neither a job's id nor one of your keys")
    return await resolve_job(client, name)
