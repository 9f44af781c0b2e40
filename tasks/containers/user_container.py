"""The user's container: made hardened beside the flow's own, watched, and always removed."""

import os
from collections.abc import Generator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import docker
from docker.errors import APIError, NotFound
from docker.types import LogConfig, Mount, Ulimit

from tasks.containers.engine import api, asking, away, explained
from tasks.containers.images.pinned import Image
from tasks.containers.prepared import Prepared
from tasks.contracts import JOB_ID_LABEL, SIBLING_LABEL
from tasks.errors import ContainerLost, EngineUnavailable, InvalidPayload

_TMP = 256 * 2**20  # bytes of /tmp and of each empty volume, or as much as its memory is
_PIDS = 256  # processes and threads
_RUN = "io.prefect.flow-run-id"  # the labels of Prefect's own worker on the flow's container
_WORKER = "io.prefect.worker-name"


@dataclass(frozen=True)
class Owner:
    """The attempt that a container belongs to."""

    job: UUID
    run: UUID
    worker: str | None

    @property
    def labels(self) -> dict[str, str]:
        """By these the supervisor finds the container, should the flow be gone."""
        labels = {"prefecture": SIBLING_LABEL, JOB_ID_LABEL: str(self.job), _RUN: str(self.run)}
        return labels | ({_WORKER: self.worker} if self.worker else {})


@dataclass(frozen=True)
class ContainerSpec:
    """What a container is to be."""

    image: Image
    command: list[str]
    environment: Mapping[str, str]
    cpus: float
    memory: int
    """Bytes, swap included."""
    network: str
    """See tasks.containers.network."""
    output: Path | None = None
    """The folder that it sees as /output."""
    largest_file: int | None = None
    """Bytes that one file may have."""
    inputs: Mapping[str, Path] = field(default_factory=dict[str, Path])
    """What it may read, by the path that it sees."""
    entrypoint: list[str] = field(default_factory=list[str])
    """In place of the image's own, and of its command; empty for the image's own."""
    shm: int = 0
    """Bytes of /dev/shm; 0 for as many as its memory has."""
    prepared: Prepared = field(default_factory=Prepared)


def create(
    client: docker.DockerClient, owner: Owner, spec: ContainerSpec, name: str, number: int = 1
) -> str:
    """Make a container, not started yet: the `number`th of its job. Returns its id.

    Raises InvalidPayload where the engine refuses what was asked.
    """
    hostname = f"job-{str(owner.job)[:8]}-{number}"
    prepared = spec.prepared
    written = dict(prepared.filled)
    if spec.output is not None:
        written |= {at: spec.output for at in ("/output", prepared.output) if at}
    read = {**spec.inputs, **prepared.accounts}
    mounts = [
        *(Mount(at, str(path), type="bind") for at, path in written.items()),
        *(Mount(at, str(path), type="bind", read_only=True) for at, path in read.items()),
    ]
    # Each counts as memory, so none may be larger than that allows anyway.
    room = max(_TMP, spec.memory)
    tmpfs = f"rw,exec,nosuid,nodev,size={room},mode=1777"
    # One that shares another's network has that one's name.
    alone = spec.network == "none"
    limits = [Ulimit(name="core", soft=0, hard=0)]
    if spec.largest_file is not None:
        # One byte more than what is allowed: a file that was cut off is then seen as too large.
        # It binds files in /tmp and /dev/shm too, which may be larger than /output.
        largest = max(spec.largest_file, room, spec.shm) + 1
        limits.append(Ulimit(name="fsize", soft=largest, hard=largest))
    with asking("the container cannot be made"):
        host = api(client).create_host_config(
            mounts=mounts,
            network_mode=spec.network,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            read_only=True,
            # In the place of volumes of the image's own, which nothing would bound.
            tmpfs=dict.fromkeys(("/tmp", *prepared.empty), tmpfs),
            shm_size=spec.shm or spec.memory,
            # A program that asks for the address of its own host's name is given one.
            extra_hosts={hostname: "127.0.0.1"} if alone else None,
            mem_limit=spec.memory,
            memswap_limit=spec.memory,
            nano_cpus=round(spec.cpus * 1_000_000_000),
            pids_limit=_PIDS,
            ulimits=limits,
            # What it prints is read as it comes: the engine keeps no second copy.
            log_config=LogConfig(type=LogConfig.types.NONE),
            init=True,
        )
        made = api(client).create_container(
            spec.image.id,
            command=spec.command or None,
            entrypoint=spec.entrypoint or None,
            # Python would keep what it prints for itself until it ends, or is killed.
            environment={"HOME": "/tmp", "PYTHONUNBUFFERED": "1"} | dict(spec.environment),
            # The jobs' own user, whichever the image names: what it writes is then ours to count,
            # to move and to remove, without a root in sight.
            user=f"{os.getuid()}:{os.getgid()}",
            labels=owner.labels,
            name=name,
            hostname=hostname if alone else None,
            host_config=host,
            healthcheck={"test": ["NONE"]},
            use_config_proxy=False,  # a proxy of the host's may hold a password
        )
    return str(made["Id"])


Printed = Generator[tuple[bytes | None, bytes | None], None, None]
"""What a container prints: pieces of its standard output and its standard error.

To be closed by who does not read it to its end: the engine ends no container whose output waits for
a reader.
"""


def attach(client: docker.DockerClient, id: str) -> Printed:
    """All that a container prints from now on, to its end; best before it starts.

    To read it raises EngineUnavailable.
    """
    with asking("the container's output cannot be read"):
        return _read(api(client).attach(id, stdout=True, stderr=True, stream=True, demux=True))


def _read(stream: Any) -> Printed:
    try:
        with away():
            for piece in stream:  # noqa: UP028  # to delegate would close it, and raise what that says
                yield piece
    finally:
        with suppress(OSError):  # the other side was first
            stream.close()


@dataclass(frozen=True)
class End:
    """How a container ended."""

    code: int
    out_of_memory: bool


def start(client: docker.DockerClient, id: str) -> None:
    """Start a container. Raises InvalidPayload where its image cannot."""
    try:
        with away():
            api(client).start(id)
    except APIError as error:
        raise _unstartable(error) from error
    except EngineUnavailable as error:
        # A fault of the image, or of what was asked, is an error of its own to the engine.
        if isinstance(error.__cause__, APIError):
            raise _unstartable(error.__cause__) from error
        raise


def wait(client: docker.DockerClient, id: str) -> End:
    """Wait for the end of a container that was started.

    Raises ContainerLost where it is removed meanwhile, EngineUnavailable.
    """
    try:
        with away():
            api(client).wait(id, timeout=None)
            state: dict[str, Any] = api(client).inspect_container(id)["State"]
    except APIError as error:
        raise ContainerLost(
            f"the container was removed from outside while it ran: {explained(error)}"
        ) from error
    return End(int(state["ExitCode"]), bool(state["OOMKilled"]))


def stop(client: docker.DockerClient, id: str, grace: int) -> None:
    """SIGTERM, and SIGKILL after `grace` seconds. Nothing where it has ended."""
    try:
        with away():
            api(client).stop(id, timeout=grace)
    except APIError as error:
        if not isinstance(error, NotFound):
            raise EngineUnavailable(f"a container does not end: {explained(error)}") from error


def remove(client: docker.DockerClient, id: str) -> None:
    """Kill a container where it runs, and remove it; nothing where it is gone or going."""
    try:
        with away():
            api(client).remove_container(id, force=True, v=True)
    except APIError as error:
        if error.status_code not in (404, 409):
            raise EngineUnavailable(f"a container stays: {explained(error)}") from error


def remove_all_of(client: docker.DockerClient, job: UUID) -> int:
    """Remove what earlier attempts at a job have left on this host. Returns how many."""
    filters = {"label": [f"prefecture={SIBLING_LABEL}", f"{JOB_ID_LABEL}={job}"]}
    with asking("containers cannot be listed"):
        found: list[dict[str, Any]] = api(client).containers(all=True, filters=filters)
    for entry in found:
        remove(client, str(entry["Id"]))
    return len(found)


def _unstartable(error: APIError) -> InvalidPayload:
    return InvalidPayload(
        f"the container does not start: {explained(error)}: change the image or the command"
    )
