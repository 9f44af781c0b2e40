"""A broker in front of the machine's engine, with runs of a test's own in place of a server's."""

import asyncio
import json
import os
import socket
import threading
from base64 import b64encode
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import docker

from tasks.containers.broker.__main__ import listener
from tasks.containers.broker.broker import Broker
from tasks.containers.broker.engine import Engine
from tasks.containers.broker.flows import Flows
from tasks.containers.broker.http import PIECE, Refused
from tasks.containers.broker.runs import Run
from tasks.containers.user_container import Owner
from tasks.contracts import ENGINE_FOLDER, RUN_HEADER
from tasks.settings import engine_socket
from tests.integration.run_container.jobs import some_image

MIB = 2**20
GPU = "GPU-1"


class Known:
    """The runs of a test: see Runs. The token of each is its id."""

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}

    async def of(self, headers: Mapping[str, str]) -> Run:
        """See Runs."""
        run = self.runs.get(headers.get(RUN_HEADER.lower(), ""))
        if run is None or headers.get("authorization") != authorization(run.id):
            raise Refused(403, "the token is not that of a flow run that goes on")
        return run


def authorization(run: UUID) -> str:
    """The header with the token of a run."""
    return f"Basic {b64encode(f'run:{run}'.encode()).decode()}"


@dataclass
class Bench:
    """A broker, and folders for its runs."""

    folder: Path
    known: Known
    direct: docker.DockerClient
    made: list[str] = field(default_factory=list[str])

    @property
    def socket(self) -> Path:
        """Where the broker listens."""
        return self.folder / "broker" / "docker.sock"

    @property
    def inputs(self) -> Path:
        """The inputs root."""
        return self.folder / "inputs"

    def run(self, job: UUID | None = None, **more: Any) -> Run:
        """A run that goes on, with a container of its flow; `more`: fields of Run."""
        id = uuid4()
        run = Run(id, job or id, False, 64 * MIB, 1.0, "none")
        run = replace(run, **more)
        self.known.runs[str(id)] = run
        api: Any = self.direct.api  # its stubs leave most of its methods untyped
        made: Any = api.create_container(
            some_image(),
            ["true"],
            user=f"{os.getuid()}:{os.getgid()}",
            labels={"prefecture": "job", "io.prefect.flow-run-id": str(id)},
            environment={
                "PREFECTURE_INPUTS_ROOT": str(self.inputs),
                "PREFECTURE_RESULTS_ROOT": str(self.folder / "results"),
                "PREFECTURE__GPUS": GPU,
            },
            host_config=api.create_host_config(
                binds=[f"{self.socket.parent}:{ENGINE_FOLDER}:ro"], network_mode="none"
            ),
        )
        self.made.append(made["Id"])
        return run

    def stage(self, run: Run) -> Path:
        """The stage of a run."""
        place = self.folder / "results" / ".staging" / f"{run.job}.{run.id}.0a0b0c0d"
        place.mkdir(parents=True, exist_ok=True)
        return place

    @contextmanager
    def client(self, run: Run) -> Generator[docker.DockerClient]:
        """Docker's client, as a flow has it."""
        client = docker.DockerClient(base_url=f"unix://{self.long_path}", timeout=120)
        headers: Any = client.api.headers
        headers.update({RUN_HEADER: str(run.id), "Authorization": authorization(run.id)})
        try:
            yield client
        finally:
            client.close()

    @property
    def long_path(self) -> str:
        """The path of the socket, which may be too long for an address."""
        return str(self.socket)

    def ask(
        self, run: Run, method: str, path: str, body: object = None, **headers: str
    ) -> tuple[int, str]:
        """The status of a request, and the message of its answer."""
        data = b"" if body is None else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: docker", f"{RUN_HEADER}: {run.id}"]
        lines += [f"Authorization: {authorization(run.id)}", f"Content-Length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return self.say("\r\n".join([*lines, "", ""]).encode() + data)

    def say(self, data: bytes) -> tuple[int, str]:
        """The status and the message of the answer to some bytes."""
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(60)
            one.connect(self.long_path)
            one.sendall(data)
            said = b""
            while piece := one.recv(PIECE):
                said += piece
        head, _, rest = said.partition(b"\r\n\r\n")
        try:
            found: Any = json.loads(rest) if rest else {}
        except ValueError:
            found = {}
        message = str(found.get("message", "")) if isinstance(found, dict) else ""  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        return int(head.split()[1]), message


def owner_of(run: Run) -> Owner:
    """A run as a flow knows itself."""
    return Owner(run.job, run.id, None)


@contextmanager
def brokered(folder: Path) -> Generator[Bench]:
    """A broker that listens, in a thread of its own."""
    place = folder / "broker"
    place.mkdir()
    (folder / "inputs").mkdir()
    (folder / "results").mkdir()
    known, loop = Known(), asyncio.new_event_loop()
    path = engine_socket()
    assert path is not None
    engine = Engine(path)
    broker = Broker(engine, known, Flows(engine, place), place)
    started, end = threading.Event(), asyncio.Event()

    async def serve() -> None:
        own = listener(place / "docker.sock")
        async with await asyncio.start_unix_server(broker.serve, sock=own, limit=PIECE):
            started.set()
            await end.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(60)
    direct = docker.from_env(timeout=120)
    bench = Bench(folder, known, direct)
    api: Any = direct.api
    try:
        yield bench
    finally:
        for container in bench.made:
            api.remove_container(container, force=True)
        direct.close()
        loop.call_soon_threadsafe(end.set)
        thread.join(60)
        loop.close()


def body(**host: Any) -> dict[str, Any]:
    """What a flow asks for; `host`: what differs in HostConfig."""
    usual: dict[str, Any] = {
        "NetworkMode": "none",
        "Memory": 64 * MIB,
        "MemorySwap": 64 * MIB,
        "NanoCpus": 10**9,
        "PidsLimit": 256,
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "LogConfig": {"Type": "none", "Config": {}},
        "Init": True,
    }
    return {"Image": some_image(), "Cmd": ["true"], "HostConfig": {**usual, **host}}


def raw(run: Run, *lines: str, body: bytes = b"") -> bytes:
    """A request with the token of a run, by its first line and further headers."""
    usual = ["Host: docker", f"Prefecture-Run: {run.id}", f"Authorization: {authorization(run.id)}"]
    return "\r\n".join([lines[0], *usual, *lines[1:], "", ""]).encode() + body
