"""A compute task for one test: it does what code would try that has taken over a decoder.

Copied into a platform's inputs root and deployed from there.
"""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from prefect.settings import PREFECT_API_URL
from pydantic import Field

from tasks.contracts import Payload, Receipt, ResultsDirectory
from tasks.runtime.compute_task import compute_task, open_job
from tasks.settings import run_settings
from tasks.storage.machine_code import FOLDER


class Hostile(Payload):
    """What is there to attack."""

    published: str = Field(description="a file of another job's result, below the results root")
    secret: str = Field(description="a file that is none of its business")
    process: int = Field(description="a process of the host, or the first of the container")
    port: int = Field(description="a TCP port of this host to connect to")


def outcome(attempt: Callable[[], Any]) -> str:
    """What has become of an attempt."""
    try:
        attempt()
    except OSError as error:
        return error.strerror or str(error)
    return "done"


def connect(host: str, port: int) -> None:
    socket.create_connection((host, port), 10).close()


def connect_to_the_server() -> None:
    address = urlsplit(PREFECT_API_URL.value() or "")
    assert address.hostname and address.port
    connect(address.hostname, address.port)


def listen() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))


def append_by_a_child(file: Path) -> str:
    code = f"open({str(file)!r}, 'ab')"
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return "Permission denied" if "Permission denied" in ended.stderr else ended.stderr or "done"


@compute_task("hostile", network=False)
async def hostile(payload: Hostile, results_directory: ResultsDirectory) -> Receipt:
    """Attack, and publish what came of it."""
    root = run_settings().results
    assert isinstance(root, Path)
    file = root / payload.published
    process = Path("/proc") / str(payload.process)
    async with open_job(results_directory) as job:
        own = job.stage.files
        (own / "mine").write_text("mine")
        found: dict[str, object] = {
            # The owner may always do that, which is the jobs' user. It does not help.
            "mode": outcome(lambda: file.chmod(0o666)),
            "append": outcome(lambda: file.open("ab")),
            "replace": outcome(lambda: (own / "mine").replace(file)),
            "unlink": outcome(file.unlink),
            "take": outcome(lambda: file.rename(own / "theirs")),
            "move away": outcome(lambda: file.parent.rename(file.parent.with_name("gone"))),
            "beside it": outcome(lambda: (file.parent / "more").touch()),
            "in the root": outcome(lambda: (root / "new").touch()),
            "in the code": outcome(lambda: (Path(sys.path[-1]) / "new.py").touch()),
            "in the bytecode": outcome(lambda: (FOLDER.parent / "new.pyc").touch()),
            "by a child": await asyncio.to_thread(append_by_a_child, file),
            "secret": outcome(lambda: Path(payload.secret).read_bytes()),
            "signal": outcome(lambda: os.kill(payload.process, 0)),
            "environment": outcome(lambda: (process / "environ").read_bytes()),
            "memory": outcome(lambda: (process / "mem").open("rb")),
            "listen": outcome(listen),
            "connect": outcome(lambda: connect("127.0.0.1", payload.port)),
            "connect to the server": outcome(connect_to_the_server),
            "temporary file": outcome(lambda: tempfile.TemporaryFile().close()),
        }
        return await job.publish(found)
