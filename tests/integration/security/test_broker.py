"""What code can ask of the host that has taken over a job which starts containers."""

import json
import os
import socket
from base64 import b64encode
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tasks.prefect_api import run_tokens
from tests.integration.run_container.jobs import running_sibling, shell, some_image, submit_job
from tests.support.containers import containers_of
from tests.support.platform import Platform, wait_until
from tests.support.session.environment import PASSWORD

pytestmark = pytest.mark.thorough
# Run inside the flow's own container: with its user, its socket and its token.
TAKEN_OVER = """
import glob, json, socket, sys
from tasks.containers.engine import credentials
def ask(method, path, body):
    data = json.dumps(body).encode() if body else b""
    lines = [f"{method} {path} HTTP/1.1", "Host: docker", f"Content-Length: {len(data)}"]
    lines += [f"{name}: {value}" for name, value in credentials().items()]
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("/run/prefecture/docker.sock")
        one.sendall("\\r\\n".join([*lines, "", ""]).encode() + data)
        return int(one.makefile("rb").read().split()[1])
print(json.dumps([ask(*each) for each in json.loads(sys.argv[1])]))
print(json.dumps(glob.glob("/run/**/*.sock", recursive=True) + glob.glob("/var/run/*.sock")))
"""


def test_a_job_that_is_taken_over_has_no_other_containers(docker_platform: Platform) -> None:
    up = docker_platform
    jobs = [submit_job(up, shell("sleep 600"), "taken") for _ in range(2)]
    own, theirs = (running_sibling(up, job).id for job in jobs)
    (flow,) = containers_of(up, str(jobs[0]))
    broker = up.home / "broker"
    sources = {mount["Destination"]: mount["Source"] for mount in flow.attrs["Mounts"]}
    assert Path(sources["/run/prefecture"]).parent == broker
    assert "docker.sock" not in json.dumps(flow.attrs["HostConfig"])
    create = f"/containers/create?name=prefecture-{jobs[0]}"
    asked: list[tuple[str, str, Any]] = [
        ("GET", f"/containers/{own}/json", None),
        ("POST", create, wanted(Privileged=True)),
        ("POST", create, wanted(Mounts=[{"Type": "bind", "Source": "/", "Target": "/host"}])),
        ("POST", create, wanted(NetworkMode="host")),
        ("POST", f"/containers/create?name=prefecture-{jobs[1]}", wanted()),
        ("GET", f"/containers/{theirs}/json", None),
        ("POST", f"/containers/{theirs}/stop", None),
        ("POST", f"/containers/{own}/exec", {"Cmd": ["true"]}),
        ("GET", f"/containers/{flow.id}/json", None),
        ("GET", "/containers/json", None),
    ]
    done = flow.exec_run(["python", "-c", TAKEN_OVER, json.dumps(asked)])
    statuses, sockets = map(json.loads, done.output.decode().splitlines())
    assert statuses == [200] + [403] * (len(asked) - 1)
    assert sockets == [], "the broker's folder cannot be listed, and there is no other"
    log = "".join(path.read_text() for path in (up.home / "logs").glob("worker*.log"))
    assert f"run {jobs[0]} may not: POST /containers/create: HostConfig.Privileged" in log
    for job in jobs:
        assert up.command("prefecture", "cancel", str(job)).returncode == 0
    up.ended(jobs[0])
    # The token is good for a minute yet, but not for this.
    wait_until(lambda: ask(up, jobs[0], create) == 403, what="its run is over")


def wanted(**host: Any) -> dict[str, Any]:
    """A container that would be made, but for `host`."""
    usual = {"NetworkMode": "none", "Memory": 2**24, "MemorySwap": 2**24, "NanoCpus": 10**7}
    return {"Image": some_image(), "HostConfig": {**usual, "PidsLimit": 256, **host}}


def ask(platform: Platform, run: UUID, path: str) -> int:
    """The status of a request with the token of a run, from outside."""
    token = b64encode(run_tokens.make(run, PASSWORD).encode()).decode()
    body = json.dumps(wanted()).encode()
    lines = [f"POST {path} HTTP/1.1", f"Prefecture-Run: {run}", f"Authorization: Basic {token}"]
    lines += [f"Content-Length: {len(body)}", "", ""]
    (folder,) = (platform.home / "broker").iterdir()
    place = os.open(folder, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            # An address has 107 bytes at most, and the path of the home may have more.
            one.connect(f"/proc/self/fd/{place}/docker.sock")
            one.sendall("\r\n".join(lines).encode() + body)
            with one.makefile("rb") as answer:
                return int(answer.read().split()[1])
    finally:
        os.close(place)
