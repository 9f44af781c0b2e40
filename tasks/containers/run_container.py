"""The work of run-container: prepare image and inputs, run the container, collect its output."""

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
from tasks.containers.network import networks
from tasks.containers.output import Collected, clear, collect
from tasks.containers.prepared import Prepared, prepare
from tasks.containers.rules import Limits, stopped_by
from tasks.containers.running import Bounds, ContainerOutcome, run
from tasks.containers.secret_files import secret_files
from tasks.containers.user_container import ContainerSpec, Owner
from tasks.contracts import SECRETS_FOLDER, WORKER_LABEL, JobSource, RunContainer, size_in_bytes
from tasks.errors import ContainerFailed, InvalidPayload, JobError
from tasks.runtime.compute_task import Job
from tasks.runtime.inputs import find_inputs
from tasks.settings import get_settings, gpus, run_settings
from tasks.storage.inputs import local, s3

_LOG = 64 * 2**20  # bytes of each log that are kept
_SHOWN = 400  # characters of the last lines in an error message


@dataclass(frozen=True)
class Outcome:
    """Summary and notes of a container that succeeded."""

    summary: dict[str, Any]
    notes: str


async def run_once(payload: RunContainer, job: Job) -> Outcome:
    """Run the user's container, and stage its files and logs.

    Raises ContainerFailed where the container fails, with the place of its logs; InvalidPayload
    where the request cannot be met; EngineUnavailable.
    """
    _check_limits(payload)
    worker = job.labels.get(WORKER_LABEL)
    owner = Owner(job.id, job.flow_run, worker and str(worker))
    with connect() as client:
        # Containers of earlier attempts must not run: two would write at the same time.
        await asyncio.to_thread(user_container.remove_all_of, client, job.id)
        try:
            async with (
                networks(client, owner, payload.network) as (mode,),
                provide(client, payload, job, mode) as image,
                _folders(job, payload) as folders,
                # Last, so that the values are in memory no longer than the container.
                secret_files(client, owner, payload.secrets) as secrets,
            ):
                prepared = await asyncio.to_thread(
                    prepare, client, owner.labels, image, folders.prepared,
                    [*folders.inputs, *([SECRETS_FOLDER] if secrets else [])], folders.output,
                )  # fmt: skip
                spec = _spec(payload, image, folders, prepared, mode, secrets)
                bounds = Bounds(payload.max_duration, size_in_bytes(payload.output), _LOG)
                show = get_run_logger().info
                outcome = await run(
                    client, owner, spec, job.stage.files, bounds, lambda line: show("%s", line)
                )
                if reason := _failure(payload, outcome):
                    raise ContainerFailed(reason)
                to = job.stage.files / "output"
                seen_at = [path for path in ("/output", prepared.output) if path]
                collected = await asyncio.to_thread(
                    collect, folders.output, to, seen_at, bounds.output
                )
        except JobError as error:
            raise await _with_logs(error, job) from error
    return summarised(image, outcome, collected)


@dataclass(frozen=True)
class _Folders:
    output: Path
    prepared: Path
    """Files copied from the image."""
    inputs: dict[str, Path]


@asynccontextmanager
async def _folders(job: Job, payload: RunContainer) -> AsyncGenerator[_Folders]:
    """The folders that the container reads and writes; removed at the end with any content."""
    output, prepared = job.stage.scratch / "output", job.stage.scratch / "prepared"
    output.mkdir()
    try:
        yield _Folders(output, prepared, await _place_inputs(payload, job.stage.scratch / "input"))
    finally:
        await asyncio.to_thread(clear, output)
        await asyncio.to_thread(clear, prepared)


async def _place_inputs(payload: RunContainer, copies: Path) -> dict[str, Path]:
    """The inputs by their paths in the container: the folder or file itself, else copies of them.

    A glob, S3 objects and results of jobs are copied to the folder `copies`.
    """
    if "inputs" not in payload.model_fields_set:
        return {}
    source = payload.inputs
    found = await find_inputs(source)
    place = run_settings().inputs / source
    is_here = not s3.is_s3(source) and JobSource.parse(source) is None
    if is_here and place.is_dir():
        return {"/input": place}
    if is_here and not local.is_glob(source):
        return {f"/input/{place.name}": place}
    for file in found:
        to = copies / file.name
        to.parent.mkdir(parents=True, exist_ok=True)
        async with file.local(copies.parent) as path:
            await asyncio.to_thread(shutil.copyfile, path, to)
    return {"/input": copies}


def _spec(
    payload: RunContainer,
    image: Image,
    folders: _Folders,
    prepared: Prepared,
    mode: str,
    secrets: str,
) -> ContainerSpec:
    output = size_in_bytes(payload.output)
    return ContainerSpec(
        image=image,
        command=payload.command,
        environment=payload.environment,
        cpus=payload.cpus,
        memory=size_in_bytes(payload.memory),
        network=mode,
        output=folders.output,
        largest_file=output,
        inputs=folders.inputs,
        entrypoint=payload.entrypoint,
        shm=payload.shared_memory(),
        prepared=prepared,
        secrets=secrets,
        gpus=gpus(),
    )


def _check_limits(payload: RunContainer) -> None:
    most = get_settings().container_output
    if size_in_bytes(payload.output) > most:
        raise InvalidPayload(
            f"payload.output: {payload.output} is more than the {most / 2**30:,.1f} GiB that "
            "PREFECTURE_CONTAINER_OUTPUT allows: ask for less"
        )


def _failure(payload: RunContainer, outcome: ContainerOutcome) -> str:
    """Why a container has failed, in one line; empty where it has not."""
    last = " | ".join(outcome.last_lines)[-_SHOWN:]
    said = f": {last}" if last else ""
    if outcome.fault:
        return outcome.fault
    if outcome.over_time:
        return (
            f"time limit: it ran longer than its {payload.max_duration} s: raise max_duration, or "
            "do less in it"
        )
    if outcome.code and outcome.out_of_memory:
        return (
            f"out of memory: the limit is {payload.memory}: raise `memory` in the payload "
            f"(exit code {outcome.code})"
        )
    if not outcome.code:
        return ""
    rule = stopped_by(outcome.code, outcome.recent_lines, Limits(payload.network, payload.output))
    return f"exit code {outcome.code}{said}{f' ({rule})' if rule else ''}"


async def _with_logs(error: JobError, job: Job) -> JobError:
    """The error, with the place of the logs where there are any."""
    logs = [path for path in job.stage.files.glob("*.log") if path.stat().st_size]
    if not logs:
        return error
    kept = job.stage.scratch / "failed"
    kept.mkdir()
    for path in logs:
        path.rename(kept / path.name)
    location = await job.set_aside(kept, str(error))
    return type(error)(f"{error}; its logs: {location}")


def summarised(image: Image, outcome: ContainerOutcome, collected: Collected) -> Outcome:
    """Summary and notes of a container that exited with 0."""
    summary = {
        "image": image.reference,
        "image_id": image.id,
        "exit_code": outcome.code,
        "out_of_memory": outcome.out_of_memory,
        "over_time": outcome.over_time,
        "seconds": round(outcome.seconds, 3),
        "peak_memory": outcome.peak_memory,
        "cpu_seconds": round(outcome.cpu_seconds, 3),
        "logs_cut": outcome.logs_cut,
        "output_files": collected.files,
        "output_bytes": collected.bytes,
        "left_out": collected.left_out,
        "left_out_in_all": collected.left_out_in_all,
    }
    killed = (
        "**Warning:** a process in it was killed at the memory limit: raise `memory` in the "
        "payload.\n\n"
        if outcome.out_of_memory
        else ""
    )
    left = f"; {collected.left_out_in_all:,} left out" if collected.left_out_in_all else ""
    return Outcome(
        summary,
        f"{killed}**Exit code 0** after {outcome.seconds:,.1f} s: "
        f"{collected.files:,} files of output{left}. "
        f"At most {outcome.peak_memory / 2**20:,.0f} MiB of memory, "
        f"{outcome.cpu_seconds:,.1f} s of CPU. "
        f"Image `{image.reference}`.",
    )
