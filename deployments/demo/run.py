"""Runs the demo: real jobs of every compute task on all queues, watched until they have ended."""

import asyncio
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterType,
    FlowRunFilter,
    FlowRunFilterId,
)
from prefect.client.schemas.objects import FlowRun
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from deployments.demo.photos import make_photos
from deployments.jobs.attempts import attempts
from deployments.jobs.request import Terms
from deployments.jobs.submit import submit
from deployments.local.docker_engine import base_image, find_engine
from deployments.local.up import lock, print_ended_jobs, running
from deployments.pools import TREE
from deployments.status import job_status
from deployments.tables import plain_table, seconds
from tasks.contracts import Pool, Queue, job_id
from tasks.errors import OperatorError, PrefectureError
from tasks.settings import Settings
from tasks.storage.results.opening import open_results

_SLOTS = 2
_PHOTOS = 24
_LONGEST = 3600.0  # seconds, for a folder of the user's own with thousands of photographs
_WATCH = 0.5
_ANNOUNCED = 10.0  # seconds in which the final events of all jobs are printed


@dataclass(frozen=True)
class _Request:
    task: str
    queue: Queue
    payload: dict[str, Any]


def _requests(source: str) -> list[_Request]:
    # Submitted with the least urgent first: the table shows that high overtakes.
    return [
        _Request("find-primes", Queue.LOW, {"upper_bound": 10_000_000}),
        _Request("convert-images", Queue.LOW, {"source": source, "format": "webp"}),
        _Request("compress-images", Queue.NORMAL, {"source": source, "ratio": 0.4}),
        _Request("average-files", Queue.NORMAL, {"generate": {"files": 40, "numbers": 250_000}}),
        _Request("find-primes", Queue.NORMAL, {"upper_bound": 200_000_000}),
        _Request("convert-images", Queue.HIGH, {"source": source, "format": "png"}),
        _Request("find-primes", Queue.HIGH, {"upper_bound": 1_000_000}),
        _Request("compress-images", Queue.HIGH, {"source": source, "ratio": 0.8}),
    ]


def _own_container(base: str) -> dict[str, Any]:
    """A payload of run-container whose image is built from texts."""
    script = "#!/bin/sh\necho started\nsleep 5\necho done > output/output.txt\n"
    dockerfile = f'FROM {base}\nCOPY entrypoint.sh /\nENTRYPOINT ["/entrypoint.sh"]\n'
    return {"build": {"dockerfile": dockerfile, "files": {"entrypoint.sh": script}}}


def _own_generator(base: str) -> dict[str, Any]:
    """A payload of generate-data: two containers print JSON for 5 s; the topic is a folder."""
    line = "while sleep 0.1; do echo '{\"clicks\": 1}'; done"
    container = {"image": base, "command": ["sh", "-c", line], "memory": "64m", "cpus": 0.1}
    return container | {"topic": "clicks", "duration": 5, "containers": 2}


async def demo(pool: Pool | None, inputs: Path | None, out: Console) -> None:
    """Run the demo and print its table. Raises PrefectureError where a job does not complete."""
    home = TREE / "build" / "demo"
    settings = _settings(home, inputs)
    with lock(home):
        for old in home.iterdir():
            if old.is_dir():
                shutil.rmtree(old)
    if inputs is None:
        await asyncio.to_thread(make_photos, settings.inputs / "photos", _PHOTOS)
    say = _printer(out)
    async with running(settings, pool, _SLOTS, _free_port(), say) as here:
        say(f"UI while this runs: {here.ui_url}")
        async with get_client() as client:
            requests = _requests("photos" if inputs is None else ".")
            engine = find_engine() if here.pool is Pool.DOCKER else None
            if engine is not None:
                base = base_image(engine, settings)
                requests += [
                    _Request("run-container", Queue.NORMAL, _own_container(base)),
                    _Request("generate-data", Queue.HIGH, _own_generator(base)),
                ]
                engine.close()
            jobs: dict[UUID, _Request] = {}
            for request in requests:
                terms = Terms(request.task, "demo", request.queue)
                job = await submit(client, terms, request.payload)
                jobs[job] = request
            announced = asyncio.create_task(print_ended_jobs(say, jobs))
            try:
                runs = await _watch(client, jobs, out)
                await asyncio.wait({announced}, timeout=_ANNOUNCED)
            finally:
                announced.cancel()
                await asyncio.gather(announced, return_exceptions=True)
    _report(runs, jobs, settings, out)
    failed = [run for run in runs if run.state is None or not run.state.is_completed()]
    if failed:
        raise PrefectureError(f"{len(failed)} of {len(runs)} jobs did not complete: see the table")


async def _watch(client: PrefectClient, jobs: dict[UUID, _Request], out: Console) -> list[FlowRun]:
    deadline = asyncio.get_running_loop().time() + _LONGEST
    columns = (
        TextColumn("{task.fields[queue]:6}"),
        TextColumn("{task.fields[name]:16}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=out) as bars:
        lines: dict[UUID, TaskID] = {
            job: bars.add_task("", total=100, queue=r.queue, name=r.task, state="waiting")
            for job, r in jobs.items()
        }
        latest = {job: (await attempts(client, job))[-1] for job in jobs}
        while asyncio.get_running_loop().time() < deadline:
            latest = await _latest(client, latest)
            done = await _fractions(client, [run.id for run in latest.values()])
            for job, run in latest.items():
                ended = run.state is not None and run.state.is_completed()
                state = run.state.name if run.state else ""
                percent = 100.0 if ended else done.get(run.id, 0.0)
                bars.update(lines[job], completed=percent, state=state)
            if all(map(_has_ended, latest.values())):
                return list(latest.values())
            await asyncio.sleep(_WATCH)
    raise OperatorError(f"the jobs did not end within {seconds(_LONGEST)}")


async def _latest(client: PrefectClient, runs: dict[UUID, FlowRun]) -> dict[UUID, FlowRun]:
    """The current state of these attempts; the next attempt in place of a crashed one."""
    ids = [run.id for run in runs.values()]
    found = await client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids)))
    latest = {job_id(run.labels, run.id): run for run in found}
    for job, run in latest.items():
        if run.state is not None and run.state.is_crashed():
            latest[job] = (await attempts(client, job))[-1]
    return {job: latest[job] for job in runs}


def _has_ended(run: FlowRun) -> bool:
    # A crashed job is run again.
    return run.state is not None and run.state.is_final() and not run.state.is_crashed()


async def _fractions(client: PrefectClient, runs: list[UUID]) -> dict[UUID, float]:
    """The progress of each attempt in percent, from its progress artifact."""
    artifacts = await client.read_artifacts(
        artifact_filter=ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=runs),
            type=ArtifactFilterType(any_=["progress"]),
        )
    )
    return {
        artifact.flow_run_id: float(artifact.data)
        for artifact in artifacts
        if artifact.flow_run_id is not None and isinstance(artifact.data, int | float)
    }


def _report(
    runs: list[FlowRun], jobs: dict[UUID, _Request], settings: Settings, out: Console
) -> None:
    columns = ("job", "task", "queue", ">waited", ">ran", ">files", ">bytes", "results")
    table = plain_table("Jobs, in the order they were submitted", *columns)
    for run in runs:
        job = job_id(run.labels, run.id)
        request = jobs[job]
        status = job_status(run, request.task)
        found = open_results(settings).find("demo", job)
        if found is not None:
            found.verify()
            folder = Path(found.location)
            where = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
            result = (f"{len(found.manifest.files)}", f"{found.manifest.bytes:,}", str(where))
        else:
            result = ("", "", f"{status.state}: {status.message}")
        times = (seconds(status.waited), seconds(status.ran))
        table.add_row(str(job)[:8], request.task, request.queue, *times, *result)
    out.print(table)


def _settings(home: Path, inputs: Path | None) -> Settings:
    if inputs is not None and not inputs.is_dir():
        raise OperatorError(f"INPUTS={inputs} is not a folder: name one that holds photographs")
    return Settings(home=home, inputs_root=inputs, results_root=None, gateway_port=0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _printer(out: Console):
    def say(message: str) -> None:
        out.print(message, markup=False, soft_wrap=True)

    return say
