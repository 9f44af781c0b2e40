"""run-container from its payload to what is published: image, inputs, container, output."""

import asyncio
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefect.logging import get_run_logger

from tasks.containers import user_container
from tasks.containers.engine import connect
from tasks.containers.images.pinned import Image
from tasks.containers.images.provide import provide
from tasks.containers.network import network
from tasks.containers.output import Collected, clear, collect
from tasks.containers.prepared import Prepared, prepare
from tasks.containers.rules import Limits, stopped_by
from tasks.containers.running import Bounds, ContainerOutcome, run
from tasks.containers.user_container import ContainerSpec, Owner
from tasks.contracts import WORKER_LABEL, RunContainer, size_in_bytes
from tasks.errors import ContainerFailed, InvalidPayload, JobError
from tasks.runtime.compute_task import Job
from tasks.runtime.inputs import find_inputs
from tasks.settings import get_settings, run_settings
from tasks.storage.inputs import local, s3

_LOG = 64 * 2**20  # bytes of each log
_SHOWN = 400  # characters of its last lines in a message


@dataclass(frozen=True)
class Outcome:
    """What is said of a container that has done its work."""

    summary: dict[str, Any]
    notes: str


async def run_once(payload: RunContainer, job: Job) -> Outcome:
    """Run the user's container; its files and logs are staged when it has done its work.

    Raises ContainerFailed, its logs kept apart, where it does not; InvalidPayload where what was
    asked cannot be had; EngineUnavailable.
    """
    _check_limits(payload)
    worker = job.labels.get(WORKER_LABEL)
    owner = Owner(job.id, job.flow_run, worker and str(worker))
    with connect() as client:
        # None of this job may still run: two would write at once.
        await asyncio.to_thread(user_container.remove_all_of, client, job.id)
        try:
            async with (
                network(client, owner, payload.network) as way,
                provide(client, payload, job, way) as image,
                _folders(job, payload) as folders,
            ):
                prepared = await asyncio.to_thread(
                    prepare, client, owner.labels, image, folders.prepared, folders.inputs,
                    folders.output,
                )  # fmt: skip
                spec = _spec(payload, image, folders, prepared, way)
                bounds = Bounds(payload.max_duration, size_in_bytes(payload.output), _LOG)
                show = get_run_logger().info
                ran = await run(
                    client, owner, spec, job.stage.files, bounds, lambda line: show("%s", line)
                )
                if reason := _failure(payload, ran):
                    raise ContainerFailed(reason)
                to = job.stage.files / "output"
                seen_at = [path for path in ("/output", prepared.output) if path]
                collected = await asyncio.to_thread(
                    collect, folders.output, to, seen_at, bounds.output
                )
        except JobError as error:
            raise await _with_logs(error, job) from error
    return _outcome(image, ran, collected)


@dataclass(frozen=True)
class _Folders:
    output: Path
    prepared: Path
    """What is read from the image."""
    inputs: dict[str, Path]


@asynccontextmanager
async def _folders(job: Job, payload: RunContainer) -> AsyncGenerator[_Folders]:
    """What the container reads and writes; removed at the end, whatever it left there."""
    output, prepared = job.stage.scratch / "output", job.stage.scratch / "prepared"
    output.mkdir()
    try:
        yield _Folders(output, prepared, await _place_inputs(payload, job.stage.scratch / "input"))
    finally:
        await asyncio.to_thread(clear, output)
        await asyncio.to_thread(clear, prepared)


async def _place_inputs(payload: RunContainer, copies: Path) -> dict[str, Path]:
    """What the container sees at /input: the folder or file itself, or copies of what is spread."""
    if "inputs" not in payload.model_fields_set:
        return {}
    source = payload.inputs
    found = await find_inputs(source)
    place = run_settings().inputs / source
    if not s3.is_s3(source) and place.is_dir():
        return {"/input": place}
    if not s3.is_s3(source) and not local.is_glob(source):
        return {f"/input/{place.name}": place}
    for file in found:
        to = copies / file.name
        to.parent.mkdir(parents=True, exist_ok=True)
        async with file.local(copies.parent) as path:
            await asyncio.to_thread(shutil.copyfile, path, to)
    return {"/input": copies}


def _spec(
    payload: RunContainer, image: Image, folders: _Folders, prepared: Prepared, way: str
) -> ContainerSpec:
    output = size_in_bytes(payload.output)
    return ContainerSpec(
        image=image,
        command=payload.command,
        environment=payload.environment,
        cpus=payload.cpus,
        memory=size_in_bytes(payload.memory),
        network=way,
        output=folders.output,
        largest_file=output,
        inputs=folders.inputs,
        entrypoint=payload.entrypoint,
        shm=payload.shared_memory(),
        prepared=prepared,
    )


def _check_limits(payload: RunContainer) -> None:
    most = get_settings().container_output
    if size_in_bytes(payload.output) > most:
        raise InvalidPayload(
            f"payload.output: {payload.output} is more than the {most / 2**30:,.1f} GiB that "
            "PREFECTURE_CONTAINER_OUTPUT allows: ask for less"
        )


def _failure(payload: RunContainer, ran: ContainerOutcome) -> str:
    """Why a container has failed, in one line; nothing where it has not."""
    last = " | ".join(ran.last_lines)[-_SHOWN:]
    said = f": {last}" if last else ""
    if ran.fault:
        return ran.fault
    if ran.over_time:
        return (
            f"time limit: it ran longer than its {payload.max_duration} s: raise max_duration, or "
            "do less in it"
        )
    if ran.code and ran.out_of_memory:
        return (
            f"out of memory: the limit is {payload.memory}: raise `memory` in the payload "
            f"(exit code {ran.code})"
        )
    if not ran.code:
        return ""
    rule = stopped_by(ran.code, ran.recent_lines, Limits(payload.network, payload.output))
    return f"exit code {ran.code}{said}{f' ({rule})' if rule else ''}"


async def _with_logs(error: JobError, job: Job) -> JobError:
    """The error with the place of the logs, where there are any."""
    logs = [path for path in job.stage.files.glob("*.log") if path.stat().st_size]
    if not logs:
        return error
    kept = job.stage.scratch / "failed"
    kept.mkdir()
    for path in logs:
        path.rename(kept / path.name)
    location = await job.set_aside(kept, str(error))
    return type(error)(f"{error}; its logs: {location}")


def _outcome(image: Image, ran: ContainerOutcome, collected: Collected) -> Outcome:
    summary = {
        "image": image.reference,
        "image_id": image.id,
        "exit_code": ran.code,
        "out_of_memory": ran.out_of_memory,
        "over_time": ran.over_time,
        "seconds": round(ran.seconds, 3),
        "peak_memory": ran.peak_memory,
        "cpu_seconds": round(ran.cpu_seconds, 3),
        "logs_cut": ran.logs_cut,
        "output_files": collected.files,
        "output_bytes": collected.bytes,
        "left_out": collected.left_out,
        "left_out_in_all": collected.left_out_in_all,
    }
    left = f"; {collected.left_out_in_all:,} left out" if collected.left_out_in_all else ""
    return Outcome(
        summary,
        f"**Exit code 0** after {ran.seconds:,.1f} s: {collected.files:,} files of output{left}. "
        f"At most {ran.peak_memory / 2**20:,.0f} MiB of memory, {ran.cpu_seconds:,.1f} s of CPU. "
        f"Image `{image.reference}`.",
    )
