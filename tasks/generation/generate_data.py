"""The work of generate-data: prepare image and topic, run the containers, summarise."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.logging import get_run_logger

from tasks.containers import user_container
from tasks.containers.engine import connect
from tasks.containers.images.provide import provide
from tasks.containers.network import networks
from tasks.containers.output import clear
from tasks.containers.prepared import prepare
from tasks.containers.secret_files import secret_files
from tasks.containers.user_container import ContainerSpec, Owner
from tasks.contracts import (
    SECRETS_FOLDER,
    TOPICS,
    UNTIL_LABEL,
    WORKER_LABEL,
    GenerateData,
    size_in_bytes,
)
from tasks.errors import ContainerFailed, InvalidPayload, TopicUnavailable
from tasks.generation.containers import RESTARTS, ContainerGroup
from tasks.generation.topics.topic import Topic, open_topic
from tasks.runtime.compute_task import Job
from tasks.runtime.progress import Progress, show_progress
from tasks.settings import gpus, run_settings

_CLOCKS = timedelta(seconds=5)  # by which the clock of the submitter may be late
_LOOK = 1.0  # seconds between two updates of the rates


@dataclass(frozen=True)
class Outcome:
    """Summary and notes of the generated data."""

    summary: dict[str, Any]
    notes: str


async def generate(payload: GenerateData, job: Job) -> Outcome:
    """Run the containers for their duration, and deliver the lines that they print to the topic.

    Raises InvalidPayload, TopicUnavailable, ContainerFailed where all of them were given up or a
    volume is too large, DiskNearlyFull, EngineUnavailable.
    """
    _check_start(payload, job)
    worker = job.labels.get(WORKER_LABEL)
    owner = Owner(job.id, job.flow_run, worker and str(worker))
    folder = run_settings().written / TOPICS
    topic = await asyncio.to_thread(open_topic, payload.topic, folder, f"{job.id}-{job.attempt}")
    try:
        with connect() as client:
            await asyncio.to_thread(user_container.remove_all_of, client, job.id)
            async with (
                networks(client, owner, payload.network, payload.containers) as modes,
                provide(client, payload, job, modes[0]) as image,
                secret_files(client, owner, payload.secrets) as secrets,
                AsyncExitStack() as stack,
            ):
                scratch = job.stage.scratch / "volumes"
                stack.push_async_callback(asyncio.to_thread, clear, scratch)
                prepared = await asyncio.to_thread(
                    prepare,
                    client,
                    owner.labels,
                    image,
                    scratch / "image",
                    [SECRETS_FOLDER] if secrets else (),
                )
                # Only now: to pull or build the image may have taken long.
                start, until = await _times(payload, job)
                spec = ContainerSpec(
                    image=image,
                    command=payload.command,
                    environment=topic.environment | payload.environment,
                    cpus=payload.cpus,
                    memory=size_in_bytes(payload.memory),
                    network=modes[0],
                    entrypoint=payload.entrypoint,
                    shm=payload.shared_memory(),
                    prepared=prepared,
                    secrets=secrets,
                    gpus=gpus(),
                )
                show = get_run_logger().warning
                group = ContainerGroup(
                    client, owner, spec, topic, job.stage.files, start, until,
                    lambda line: show("%s", line), modes, scratch=scratch,
                )  # fmt: skip
                async with _shown(group):
                    await group.run()
    except BaseException:
        await _close_as_far_as_possible(topic)
        raise
    await asyncio.to_thread(topic.close)
    if all(counts.given_up for counts in group.counts):
        last = " | ".join(group.last_lines)
        reason = f" ({group.last_reason})" if group.last_reason else ""
        raise ContainerFailed(f"every container exited early, {RESTARTS + 1} times: {last}{reason}")
    return _outcome(payload, group, image.reference)


def _check_start(payload: GenerateData, job: Job) -> None:
    start = payload.starts()
    later = UNTIL_LABEL in job.labels  # set by an earlier attempt, which this one continues
    if start is not None and not later and start < job.submitted - _CLOCKS:
        raise InvalidPayload(
            f"payload.start: {start.isoformat()} was in the past when the job was submitted: give "
            "a later time, or leave it out"
        )


async def _times(payload: GenerateData, job: Job) -> tuple[datetime, datetime]:
    """Start and end of the containers; a later attempt keeps the end of the first attempt."""
    now = datetime.now(UTC)
    if (until := job.labels.get(UNTIL_LABEL)) is not None:
        end = datetime.fromisoformat(str(until))
        return max(now, end - timedelta(seconds=payload.duration)), end
    start = max(now, payload.starts() or now)
    end = start + timedelta(seconds=payload.duration)
    await job.label(UNTIL_LABEL, end.isoformat())
    return start, end


async def _close_as_far_as_possible(topic: Topic) -> None:
    topic.hurry()
    try:
        await asyncio.to_thread(topic.close)
    except TopicUnavailable as error:
        get_run_logger().warning("%s", error)


@asynccontextmanager
async def _shown(group: ContainerGroup) -> AsyncGenerator[None]:
    """Show elapsed time, running containers and rates in the UI, updated every second."""
    async with show_progress("waiting for the start") as progress:
        ticker = asyncio.create_task(_tick(group, progress))
        try:
            yield
        finally:
            ticker.cancel()
            await asyncio.gather(ticker, return_exceptions=True)


async def _tick(group: ContainerGroup, progress: Progress) -> None:
    whole = (group.until - group.start).total_seconds()
    before = (0, 0)
    while True:
        await asyncio.sleep(_LOOK)
        elapsed = (datetime.now(UTC) - group.start).total_seconds()
        if elapsed < 0:
            continue
        messages = sum(counts.messages for counts in group.counts)
        size = sum(counts.bytes for counts in group.counts)
        progress.set(min(1.0, elapsed / whole))
        progress.text = (
            f"{elapsed:,.0f} of {whole:,.0f} s, {group.up} of {group.number} containers up, "
            f"{(messages - before[0]) / _LOOK:,.0f} messages/s, "
            f"{(size - before[1]) / _LOOK / 1000:,.1f} kB/s, {group.topic.delivered:,} delivered"
        )
        before = (messages, size)


def _warning(group: ContainerGroup) -> str:
    """Warnings about a Completed job for its notes; also logged."""
    found: list[str] = []
    if not sum(counts.messages for counts in group.counts):
        found.append(
            "no container has printed a line of JSON: should it have, let it flush its output "
            "after each line"
        )
    if too_long := sum(counts.too_long for counts in group.counts):
        found.append(
            f"{too_long:,} lines were longer than 1 MiB, and not delivered: print shorter ones"
        )
    for line in found:
        get_run_logger().warning("%s", line)
    return "".join(f"**Warning:** {line}.\n\n" for line in found)


def _outcome(payload: GenerateData, group: ContainerGroup, image: str) -> Outcome:
    containers = [
        {
            "messages": counts.messages,
            "bytes": counts.bytes,
            "aside": counts.aside,
            "too_long": counts.too_long,
            "restarts": counts.restarts,
            "given_up": counts.given_up,
            "first": counts.first and counts.first.isoformat(),
            "last": counts.last and counts.last.isoformat(),
        }
        for counts in group.counts
    ]
    summary = {
        "topic": group.topic.place,
        "image": image,
        "description": payload.description,
        "user": payload.user,
        "start": group.start.isoformat(),
        "end": group.until.isoformat(),
        "delivered": group.topic.delivered,
        "containers": containers,
    }
    rows = "\n".join(
        f"| {n} | {c.messages:,} | {c.bytes:,} | {c.aside:,} | {c.restarts}"
        f"{', given up' if c.given_up else ''} |"
        for n, c in enumerate(group.counts, start=1)
    )
    return Outcome(
        summary,
        f"{_warning(group)}**{group.topic.delivered:,} messages** to `{group.topic.place}`.\n\n"
        f"| container | messages | bytes | no JSON | restarts |\n|---|---:|---:|---:|---:|\n{rows}",
    )
