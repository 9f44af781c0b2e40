"""Calls of the engine for users' containers: create one hardened, attach, start, stop, remove."""

import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import docker
from docker.errors import APIError, NotFound
from docker.types import DeviceRequest, LogConfig, Mount, Ulimit

from tasks.containers.engine import api, engine_call, engine_outages, explained
from tasks.containers.gpus import with_only
from tasks.containers.images.pinned import Image
from tasks.containers.prepared import Prepared
from tasks.contracts import JOB_ID_LABEL, SECRETS_FOLDER, SIBLING_LABEL
from tasks.errors import ContainerLost, EngineUnavailable, InvalidPayload
from tasks.settings import run_settings

_TMP = 256 * 2**20  # minimum bytes of /tmp and of each empty volume; else as large as the memory
_PIDS = 256  # processes and threads
_RUN = "io.prefect.flow-run-id"  # labels as Prefect's own worker sets them on the flow's container
_WORKER = "io.prefect.worker-name"


@dataclass(frozen=True)
class Owner:
    """The attempt that a container belongs to."""

    job: UUID
    run: UUID
    worker: str | None

    @property
    def labels(self) -> dict[str, str]:
        """Labels by which the supervisor finds the container once the flow is gone."""
        labels = {"prefecture": SIBLING_LABEL, JOB_ID_LABEL: str(self.job), _RUN: str(self.run)}
        return labels | ({_WORKER: self.worker} if self.worker else {})

    def hostname(self, number: int) -> str:
        """The host name of the `number`th container of the job."""
        return f"job-{str(self.job)[:8]}-{number}"


@dataclass(frozen=True)
class ContainerSpec:
    """Image, command, limits and mounts of a container."""

    image: Image
    command: list[str]
    environment: Mapping[str, str]
    cpus: float
    memory: int
    """Bytes, swap included."""
    network: str
    """See tasks.containers.network."""
    output: Path | None = None
    """The folder that is mounted at /output."""
    largest_file: int | None = None
    """Maximum bytes of one file."""
    inputs: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """Read-only mounts, by their paths in the container."""
    entrypoint: list[str] = field(default_factory=list[str])
    """Replaces the image's entrypoint and command; empty for the image's own."""
    shm: int = 0
    """Bytes of /dev/shm; 0 for as many as `memory`."""
    prepared: Prepared = field(default_factory=Prepared)
    secrets: str = ""
    """The volume of its secrets; empty for none."""
    gpus: Sequence[str] = ()
    """Ids of GPUs."""


def device_requests(gpus: Sequence[str]) -> list[DeviceRequest] | None:
    """What `docker run --gpus device=…` asks of the engine; None for no GPU."""
    if not gpus:
        return None
    return [DeviceRequest(device_ids=list(gpus), capabilities=[["gpu"]])]


def create(
    client: docker.DockerClient, owner: Owner, spec: ContainerSpec, name: str, number: int = 1
) -> str:
    """Create the `number`th container of a job, without starting it. Returns its id.

    Raises InvalidPayload where the engine refuses the spec, EngineUnavailable.
    """
    hostname = owner.hostname(number)
    prepared = spec.prepared
    written = dict(prepared.filled)
    if spec.output is not None:
        written |= {at: spec.output for at in ("/output", prepared.output) if at}
    read = {**spec.inputs, **prepared.accounts}
    mounts = [
        *(Mount(at, str(path), type="bind") for at, path in written.items()),
        *(Mount(at, str(path), type="bind", read_only=True) for at, path in read.items()),
    ]
    if spec.secrets:
        mounts.append(
            Mount(SECRETS_FOLDER, spec.secrets, type="volume", read_only=True, no_copy=True)
        )
    # What is written to a tmpfs counts as the container's memory, which thus limits it too.
    room = max(_TMP, spec.memory)
    tmpfs = f"rw,exec,nosuid,nodev,size={room},mode=1777"
    # A container that shares another's network has that one's hostname, which is the same.
    alone = spec.network == "none"
    # Otherwise Python buffers its output, and loses it when it is killed.
    environment = {"HOME": "/tmp", "PYTHONUNBUFFERED": "1"} | dict(spec.environment)
    limits = [Ulimit(name="core", soft=0, hard=0)]
    if spec.largest_file is not None:
        # One byte more than allowed, so that a file cut off at this limit is detected as too large.
        # The limit holds for /tmp and /dev/shm too, which may be larger than /output.
        largest = max(spec.largest_file, room, spec.shm) + 1
        limits.append(Ulimit(name="fsize", soft=largest, hard=largest))
    with engine_call("the container cannot be created"):
        host = api(client).create_host_config(
            mounts=mounts,
            network_mode=spec.network,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            read_only=True,
            # Also in place of the image's empty volumes, which would have no limit.
            tmpfs=dict.fromkeys(("/tmp", *prepared.empty), tmpfs),
            shm_size=spec.shm or spec.memory,
            # So that programs can resolve their own hostname.
            extra_hosts={hostname: "127.0.0.1"} if alone else None,
            mem_limit=spec.memory,
            memswap_limit=spec.memory,
            nano_cpus=round(spec.cpus * 1_000_000_000),
            pids_limit=_PIDS,
            device_requests=device_requests(spec.gpus),
            runtime=run_settings().runtime,
            ulimits=limits,
            # Output is read from the attached stream: the engine keeps no second copy.
            log_config=LogConfig(type=LogConfig.types.NONE),
            init=True,
        )
        made = api(client).create_container(
            spec.image.id,
            command=spec.command or None,
            entrypoint=spec.entrypoint or None,
            environment=with_only(spec.gpus, environment),
            # The jobs' user in place of the image's: the flow can then measure, move and remove the
            # container's files, and nothing runs as root.
            user=f"{os.getuid()}:{os.getgid()}",
            labels=owner.labels,
            name=name,
            hostname=hostname if alone else None,
            host_config=host,
            healthcheck={"test": ["NONE"]},
            use_config_proxy=False,  # the host's proxy may contain a password
        )
    return str(made["Id"])


Printed = Generator[tuple[bytes | None, bytes | None], None, None]
"""A container's output: pieces of its stdout and stderr.

A caller that does not read it to its end must close it: the engine cannot stop a container whose
output is not read.
"""


def attach(client: docker.DockerClient, id: str) -> Printed:
    """All output of a container from now on; to have all of it, call this before the start.

    Raises EngineUnavailable, now or while it is read.
    """
    with engine_call("the container's output cannot be read"):
        return _read(api(client).attach(id, stdout=True, stderr=True, stream=True, demux=True))


def _read(stream: Any) -> Printed:
    try:
        with engine_outages():
            for piece in stream:  # noqa: UP028  # `yield from` would close it, and raise its errors
                yield piece
    finally:
        with suppress(OSError):  # the engine closed it first
            stream.close()


@dataclass(frozen=True)
class ContainerExit:
    """Exit code of a container, and whether its memory limit killed it."""

    code: int
    out_of_memory: bool


def start(client: docker.DockerClient, id: str) -> None:
    """Start a container. Raises InvalidPayload where its image or command cannot be started."""
    try:
        with engine_outages():
            api(client).start(id)
    except APIError as error:
        raise _unstartable(error) from error
    except EngineUnavailable as error:
        # The engine reports faults of image or command as its own (status 500).
        if isinstance(error.__cause__, APIError):
            raise _unstartable(error.__cause__) from error
        raise


def wait(client: docker.DockerClient, id: str) -> ContainerExit:
    """Wait for the exit of a container that was started.

    Raises ContainerLost where it is removed meanwhile, EngineUnavailable.
    """
    try:
        with engine_outages():
            api(client).wait(id, timeout=None)
            state: dict[str, Any] = api(client).inspect_container(id)["State"]
    except APIError as error:
        raise ContainerLost(
            f"the container was removed from outside while it ran: {explained(error)}"
        ) from error
    return ContainerExit(int(state["ExitCode"]), bool(state["OOMKilled"]))


def stop(client: docker.DockerClient, id: str, grace: int) -> None:
    """Send SIGTERM, and SIGKILL after `grace` seconds. Does nothing where it has exited."""
    try:
        with engine_outages():
            api(client).stop(id, timeout=grace)
    except APIError as error:
        if not isinstance(error, NotFound):
            raise EngineUnavailable(f"a container cannot be stopped: {explained(error)}") from error


def remove(client: docker.DockerClient, id: str) -> None:
    """Kill and remove a container. Does nothing where it is gone or being removed."""
    try:
        with engine_outages():
            api(client).remove_container(id, force=True, v=True)
    except APIError as error:
        if error.status_code not in (404, 409):
            raise EngineUnavailable(f"a container cannot be removed: {explained(error)}") from error


def remove_all_of(client: docker.DockerClient, job: UUID) -> int:
    """Remove the containers that earlier attempts at a job left on this host. Returns how many."""
    filters = {"label": [f"prefecture={SIBLING_LABEL}", f"{JOB_ID_LABEL}={job}"]}
    with engine_call("containers cannot be listed"):
        found: list[dict[str, Any]] = api(client).containers(all=True, filters=filters)
    for entry in found:
        remove(client, str(entry["Id"]))
    return len(found)


def _unstartable(error: APIError) -> InvalidPayload:
    return InvalidPayload(
        f"the container does not start: {explained(error)}: change the image or the command"
    )
