"""The containers that a job may have, of four kinds, each written anew from its own template.

A request says what differs from job to job: image, command, environment, limits, mounts. All its
other fields must have the values of the template; a field that is not known here is refused.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from tasks.containers.broker.http import Refused
from tasks.containers.broker.runs import Run
from tasks.containers.broker.stages import Stage
from tasks.containers.gpus import with_only
from tasks.contracts import JOB_ID_LABEL, SECRETS_VOLUME, SIBLING_LABEL

RUN_LABEL = "io.prefect.flow-run-id"
WORKER_LABEL = "io.prefect.worker-name"
KIND_LABEL = "prefecture.kind"
NETWORK = "prefecture-containers"
_MOST_RESTARTS = 5
_TMP = 256 * 2**20  # bytes, at least
_BILLION = 1_000_000_000
_PIDS = 256


class Kind(StrEnum):
    """What a container is for."""

    USER = "user"
    """It runs a user's image."""
    PROBE = "probe"
    """It is never started: files are copied from it."""
    NETWORK = "network"
    """It holds the routes of a network."""
    SECRETS = "secrets"
    """It holds the files of secrets in memory."""


class _Exact(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Mount(_Exact):
    """A mount as it is asked for."""

    Type: Literal["bind", "volume"]
    Source: Annotated[str, Field(pattern=r"^[^\x00\n]*$", max_length=4096)]
    Target: Annotated[str, Field(pattern=r"^/[^\x00\n]*$", max_length=4096)]
    ReadOnly: bool = False
    VolumeOptions: "_NoCopy | None" = None


class _NoCopy(_Exact):
    NoCopy: Literal[True]


class _Limit(_Exact):
    Name: Literal["core", "fsize"]
    Soft: Annotated[int, Field(ge=0)]
    Hard: Annotated[int, Field(ge=0)]


class _NoLog(_Exact):
    Type: Literal["none"]
    Config: dict[str, None] | None = None


class _Gpus(_Exact):
    Driver: Literal[""] = ""
    Count: Literal[0] = 0
    DeviceIDs: list[str]
    Capabilities: list[list[Literal["gpu"]]]
    Options: dict[str, None] = {}


class Host(_Exact):
    """The limits and mounts that are asked for."""

    NetworkMode: str
    Memory: int | None = None
    MemorySwap: int | None = None
    ShmSize: Annotated[int, Field(ge=0)] | None = None
    NanoCpus: int | None = None
    PidsLimit: int | None = None
    ReadonlyRootfs: Literal[True] | None = None
    CapDrop: list[Literal["ALL"]] = []
    CapAdd: list[Literal["NET_ADMIN"]] = []
    SecurityOpt: list[Literal["no-new-privileges"]] = []
    ExtraHosts: list[str] = []
    Ulimits: list[_Limit] = []
    LogConfig: _NoLog | None = None
    Tmpfs: dict[str, str] = {}
    Init: Literal[True] | None = None
    Runtime: str | None = None
    Mounts: Annotated[list[Mount], Field(max_length=64)] = []
    DeviceRequests: list[_Gpus] | None = None


class Wanted(_Exact):
    """A container as it is asked for: the body that Docker's client sends."""

    Image: str
    Cmd: list[str] | None = None
    Entrypoint: list[str] | None = None
    Env: list[str] | None = None
    User: str | None = None
    Labels: dict[str, str] | None = None
    Hostname: str | None = None
    Healthcheck: dict[str, Any] | None = None
    HostConfig: Host
    AttachStdout: bool = True
    AttachStderr: bool = True
    AttachStdin: Literal[False] = False
    Tty: Literal[False] = False
    OpenStdin: Literal[False] = False
    StdinOnce: Literal[False] = False
    NetworkDisabled: Literal[False] = False
    Domainname: None = None
    ExposedPorts: None = None
    Volumes: None = None
    WorkingDir: None = None
    NetworkingConfig: None = None
    MacAddress: None = None
    StopSignal: None = None
    StopTimeout: None = None
    Runtime: None = None


class WantedNetwork(_Exact):
    """The network as Docker's client asks for it."""

    Name: Literal["prefecture-containers"]
    Driver: Literal["bridge"]
    Options: dict[str, str]
    IPAM: None = None
    CheckDuplicate: bool
    Labels: dict[str, str] = {}


OUR_NETWORK: Mapping[str, Any] = {
    "Name": NETWORK,
    "Driver": "bridge",
    "CheckDuplicate": True,
    # Containers cannot connect to each other.
    "Options": {"com.docker.network.bridge.enable_icc": "false"},
    "Labels": {"prefecture": "network"},
}
"""The one network of all users' containers."""


@dataclass(frozen=True)
class Flow:
    """What the worker gave the flow's own container."""

    id: str
    image: str
    """Its id."""
    user: str
    """uid:gid of all containers of its job."""
    variables: Mapping[str, str]
    worker: str
    stages: Mapping[str, Stage]
    """By their names, as they were when the broker first heard of the flow."""

    @property
    def gpus(self) -> set[str]:
        """The ids of the GPUs that the worker gave the run."""
        return {id for id in self.variables.get("PREFECTURE__GPUS", "").split(",") if id}

    @property
    def inputs(self) -> Path:
        """The folder that it reads."""
        return Path(self.variables["PREFECTURE_INPUTS_ROOT"])

    @property
    def written(self) -> Path:
        """The folder of all stages of its host."""
        return written(self.variables)


def written(variables: Mapping[str, str]) -> Path:
    """The folder that a flow with these variables writes its stages in."""
    return Path(variables.get("PREFECTURE_SCRATCH") or variables["PREFECTURE_RESULTS_ROOT"])


@dataclass(frozen=True)
class Named:
    """The kind of a container and its number among several, read from its name."""

    kind: Kind
    number: int = 1


def named(name: str | None, run: Run) -> Named:
    """What a container with a name is for. Raises Refused for the name of another run."""
    id = re.escape(str(run.id))
    if name is None:
        return Named(Kind.PROBE)
    if name == f"{SECRETS_VOLUME}{run.id}":
        return Named(Kind.SECRETS)
    if name == f"prefecture-{run.id}":
        return Named(Kind.USER)
    pattern = rf"prefecture-(network-)?{id}-([1-9][0-9]?)(-[0-{_MOST_RESTARTS}])?"
    found = re.fullmatch(pattern, name)
    if not found or int(found[2]) > run.containers or bool(found[1]) == bool(found[3]):
        raise Refused(403, "a container of this name does not belong to this run")
    return Named(Kind.NETWORK if found[1] else Kind.USER, int(found[2]))


def labels(run: Run, flow: Flow, kind: Kind) -> dict[str, str]:
    """The labels of each container of a run, which win over those of its image."""
    own = {"prefecture": SIBLING_LABEL, JOB_ID_LABEL: str(run.job), RUN_LABEL: str(run.id)}
    return own | {KIND_LABEL: kind, WORKER_LABEL: flow.worker}


def probe(image: str, own: Mapping[str, str]) -> dict[str, Any]:
    """A container that is never started."""
    host = {"NetworkMode": "none", **_HARDENED}
    return {"Image": image, "Cmd": ["never started"], "Labels": own, "HostConfig": host}


def user(
    wanted: Wanted,
    run: Run,
    flow: Flow,
    own: Mapping[str, str],
    number: int,
    mounts: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """A container of a user's image. `mounts`: as the engine is to make them."""
    asked = wanted.HostConfig
    memory = _within(asked.Memory, run.memory, "Memory")
    cpus = _within(asked.NanoCpus, round(run.cpus * _BILLION), "NanoCpus")
    if asked.MemorySwap != memory:
        raise Refused(403, "HostConfig.MemorySwap is not that of Memory")
    if asked.PidsLimit != _PIDS:
        raise Refused(403, f"HostConfig.PidsLimit is not {_PIDS}")
    if asked.CapAdd:
        raise Refused(403, "HostConfig.CapAdd is not allowed")
    hostname = _hostname(run.job, number)
    alone = asked.NetworkMode == "none"
    room = f"rw,exec,nosuid,nodev,size={max(_TMP, memory)},mode=1777"
    sizes = [one for one in asked.Ulimits if one.Name == "fsize"]
    return {
        "Image": wanted.Image,
        "Cmd": wanted.Cmd,
        "Entrypoint": wanted.Entrypoint,
        "Env": _environment(wanted),
        "User": flow.user,
        "Labels": own,
        **({"Hostname": hostname} if alone else {}),
        "AttachStdout": True,
        "AttachStderr": True,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            **_HARDENED,
            "NetworkMode": asked.NetworkMode,
            "Memory": memory,
            "MemorySwap": memory,
            "ShmSize": asked.ShmSize or memory,
            "NanoCpus": cpus,
            "PidsLimit": _PIDS,
            "ExtraHosts": [f"{hostname}:127.0.0.1"] if alone else [],
            "Ulimits": [
                {"Name": "core", "Soft": 0, "Hard": 0},
                *({"Name": "fsize", "Soft": one.Soft, "Hard": one.Hard} for one in sizes[:1]),
            ],
            "LogConfig": {"Type": "none"},
            "Tmpfs": dict.fromkeys(("/tmp", *asked.Tmpfs), room),
            "Init": True,
            "Mounts": list(mounts),
            "DeviceRequests": _devices(asked, flow),
            **_runtime(flow),
        },
    }


def network(
    run: Run, flow: Flow, own: Mapping[str, str], number: int, arguments: Sequence[str]
) -> dict[str, Any]:
    """The container that holds the network of a user's container, and sets its routes."""
    return {
        "Image": flow.image,
        "Cmd": ["python", "-m", "tasks.containers.routes", *arguments],
        "User": "0:0",
        "Labels": own,
        "Hostname": _hostname(run.job, number),
        "AttachStdout": True,
        "AttachStderr": True,
        "HostConfig": {
            **_HARDENED,
            "NetworkMode": NETWORK,
            "CapAdd": ["NET_ADMIN"],
            "Memory": 64 * 2**20,
            "MemorySwap": 64 * 2**20,
            "PidsLimit": 16,
            "LogConfig": {"Type": "none"},
        },
    }


def secrets(flow: Flow, own: Mapping[str, str], mount: Mapping[str, Any]) -> dict[str, Any]:
    """The container that holds the files of secrets in memory."""
    return {
        "Image": flow.image,
        "Entrypoint": ["sleep", "infinity"],
        "User": flow.user,
        "Labels": own,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            **_HARDENED,
            "NetworkMode": "none",
            "Memory": 32 * 2**20,
            "MemorySwap": 32 * 2**20,
            "PidsLimit": 4,
            "LogConfig": {"Type": "none"},
            "Init": True,
            "Mounts": [mount],
        },
    }


_HARDENED: Mapping[str, Any] = {
    "Privileged": False,
    "CapDrop": ["ALL"],
    "SecurityOpt": ["no-new-privileges"],
    "ReadonlyRootfs": True,
}


def _within(asked: int | None, most: int, name: str) -> int:
    if not asked or not 0 < asked <= most:
        raise Refused(403, f"HostConfig.{name} is not between 1 and {most:,}: the job's payload")
    return asked


def _hostname(job: UUID, number: int) -> str:
    return f"job-{str(job)[:8]}-{number}"


def _devices(asked: Host, flow: Flow) -> list[dict[str, Any]] | None:
    ids = _gpus(asked)
    if not set(ids) <= flow.gpus:
        raise Refused(403, "HostConfig.DeviceRequests has a GPU that is not this run's")
    if not ids:
        return None
    return [{"Driver": "", "DeviceIDs": ids, "Capabilities": [["gpu"]], "Options": {}}]


def _gpus(asked: Host) -> list[str]:
    return [id for one in asked.DeviceRequests or () for id in one.DeviceIDs]


def _environment(wanted: Wanted) -> list[str]:
    given = dict(text.split("=", 1) for text in wanted.Env or () if "=" in text)
    return [f"{name}={value}" for name, value in with_only(_gpus(wanted.HostConfig), given).items()]


def _runtime(flow: Flow) -> dict[str, str]:
    runtime = flow.variables.get("PREFECTURE_RUNTIME")
    return {"Runtime": runtime} if runtime else {}
