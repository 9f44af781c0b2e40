"""python -m tasks.containers.broker FOLDER WORKER NAME

Listens at the socket docker.sock in FOLDER, which jobs of run-container and generate-data have as
/run/prefecture. WORKER is the process that started this one, NAME that worker's name: once it has
ended, the broker goes on while jobs run that it has started. Prints `ready` once it listens.
"""

import asyncio
import contextlib
import logging
import os
import resource
import socket
import struct
import sys
from pathlib import Path

from tasks.containers.broker.broker import Broker
from tasks.containers.broker.engine import Engine
from tasks.containers.broker.flows import Flows
from tasks.containers.broker.folders import remove_left
from tasks.containers.broker.http import PIECE, Refused
from tasks.containers.broker.runs import RunsOfApi
from tasks.containers.broker.templates import WORKER_LABEL
from tasks.contracts import ENGINE_SOCKET
from tasks.settings import api_certificates, api_url, engine_socket

_LOOK = 5.0  # seconds between two looks at the worker
_ROUNDS = 12  # such looks between two that release what is held for removed containers
_BACKLOG = 512


async def serve(folder: Path, worker: int, name: str) -> None:
    """Answer requests until the worker has ended and no job needs this broker any more."""
    socket_of_engine = engine_socket()
    if socket_of_engine is None:
        sys.exit("no broker: there is no socket of a Docker engine on this host (DOCKER_HOST)")
    if not shares_processes(socket_of_engine):
        sys.exit(
            "no broker: the Docker engine has a process namespace of its own, and would mount "
            "other folders than the broker's: set PREFECTURE_BROKER=false"
        )
    remove_left(folder)
    engine = Engine(socket_of_engine)
    runs = RunsOfApi(api_url() or "", api_certificates())
    broker = Broker(engine, runs, Flows(engine, folder), folder)
    place = folder / Path(ENGINE_SOCKET).name
    listening = listener(place)
    own = place.stat().st_ino
    async with await asyncio.start_unix_server(
        broker.serve, sock=listening, limit=PIECE, backlog=_BACKLOG
    ):
        print("ready", flush=True)
        rounds = 0
        while os.getppid() == worker or broker.open or await _is_needed(engine, place, own, name):
            await asyncio.sleep(_LOOK)
            rounds += 1
            if rounds % _ROUNDS == 0:
                with contextlib.suppress(Refused):
                    await broker.containers.tidy()


def shares_processes(place: Path) -> bool:
    """Whether the listener of a socket knows this process by the number that it has here.

    The paths of the folders that the engine mounts contain that number: see folders.
    """
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(str(place))
        (pid,) = struct.unpack_from("i", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    # 0: a process that is not visible here. More numbers: one in a namespace inside this one.
    return pid != 0 and len(_numbers(str(pid))) == len(_numbers("self"))


def _numbers(process: str) -> list[str]:
    """The numbers of a process, in the namespaces from this one on."""
    status = Path("/proc", process, "status").read_text()
    return next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))


def listener(place: Path) -> socket.socket:
    """A socket that listens at a path, which may be long, in place of an earlier one."""
    place.parent.chmod(0o711)  # jobs find the socket by its name, and list nothing
    folder = os.open(place.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        new = f"{place.name}.{os.getpid()}"
        made = socket.socket(socket.AF_UNIX)
        # An address of a socket has 107 bytes at most.
        made.bind(f"/proc/self/fd/{folder}/{new}")
        made.listen(_BACKLOG)
        (place.parent / new).chmod(0o666)  # without a token there is no answer
        (place.parent / new).rename(place)
        return made
    finally:
        os.close(folder)


async def _is_needed(engine: Engine, place: Path, own: int, name: str) -> bool:
    """Whether jobs run that would ask this broker, and not a later one."""
    try:
        if place.stat().st_ino != own:
            return False
        labels = {"prefecture=job", f"{WORKER_LABEL}={name}"}
        return any(one["State"] == "running" for one in await engine.listed(labels))
    except (OSError, Refused):
        return False


def main() -> None:
    """Read the arguments, and serve."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s | %(levelname)-7s | broker - %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    folder, worker, name = sys.argv[1:]
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two a connection, one a folder
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(Path(folder), int(worker), name))


if __name__ == "__main__":
    main()
