"""Who may ask the broker, and how: requests that are not plain, streams, and tokens."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import tracemalloc
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import pytest

from tasks.containers.broker import runs
from tasks.containers.broker.__main__ import shares_processes
from tasks.containers.broker.engine import Engine
from tasks.containers.broker.http import Refused
from tasks.containers.broker.runs import Run, RunsOfApi
from tasks.contracts import PULL_STEPS
from tests.support.web.handlers import serving
from tests.tasks.containers.broker.harness import MIB, Bench, body, raw


def test_requests_that_are_not_plain(bench: Bench, run: Run) -> None:
    smuggled = b"0\r\n\r\nGET /info HTTP/1.1\r\nHost: docker\r\n\r\n"
    create = "POST /containers/create HTTP/1.1"
    twice = b'{"Image": "a", "HostConfig": {}, "hostconfig": {"Privileged": true}}'
    for sent, said in [
        (raw(run, create, "Transfer-Encoding: chunked", body=smuggled), "Transfer-Encoding"),
        (raw(run, create, "Content-Length: 4", "Transfer-Encoding: chunked"), "Transfer-Encoding"),
        (raw(run, create, "Content-Length: 4", "Content-Length: 40"), "twice"),
        (raw(run, create, "Content-Length: +4"), "no number"),
        (raw(run, create, "X: y", " folded: z"), "not well-formed"),
        (raw(run, create, "X: y\nTransfer-Encoding: chunked"), "not well-formed"),
        (raw(run, create, "Transfer-Encoding : chunked"), "not well-formed"),
        (raw(run, "GET /version HTTP/1.0"), "first line"),
        (raw(run, "GET http://docker/version HTTP/1.1"), "first line"),
        (raw(run, "GET /containers/../info HTTP/1.1"), "not well-formed"),
        (raw(run, "GET /images/..%2f..%2finfo/json HTTP/1.1"), "not well-formed"),
        (raw(run, "POST /containers/create?name=a&name=b HTTP/1.1"), "twice"),
        (raw(run, create, f"Content-Length: {len(twice)}", body=twice), "a name twice"),
        (raw(run, create, "Content-Length: 2", body=b"[]"), "not allowed"),
        (raw(run, create, "Content-Length: 1", body=b"{"), "not JSON"),
        (raw(run, create, f"Content-Length: {2**40}"), "1,048,576 bytes"),
    ]:
        status, message = bench.say(sent)
        assert 400 <= status < 500, (sent, status)
        assert said in message, (sent, message)
    # What stands behind a request is not read.
    both = raw(run, "GET /version HTTP/1.1", "Content-Length: 0", body=raw(run, "GET /x HTTP/1.1"))
    assert bench.say(both)[0] == 200


def test_a_field_that_is_not_known_is_refused(bench: Bench, run: Run) -> None:
    for asked in ({**body(), "Shell": ["x"]}, body(GroupAdd=["0"])):
        status, message = bench.ask(run, "POST", "/containers/create", asked)
        assert (status, "not allowed" in message) == (403, True)


async def test_a_stream_goes_no_faster_than_its_client_reads() -> None:
    piece, count = b"x" * MIB, 64
    with tempfile.TemporaryDirectory(prefix="broker-") as folder:
        place = Path(folder) / "engine"

        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            for _ in range(count):
                writer.write(piece)
                await writer.drain()
            writer.close()

        async def pass_on(reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
            gone = asyncio.create_task(asyncio.Event().wait())
            await Engine(place).stream(client, gone, "GET", "/stream")
            gone.cancel()
            client.close()

        async with (
            await asyncio.start_unix_server(flood, place),
            await asyncio.start_unix_server(pass_on, Path(folder) / "broker"),
        ):
            reader, writer = await asyncio.open_unix_connection(Path(folder) / "broker")
            tracemalloc.start()
            try:
                passed = 0
                while data := await reader.read(2**12):
                    passed += len(data)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            writer.close()
    assert passed == count * MIB
    assert peak < 8 * MIB


class Api(BaseHTTPRequestHandler):
    """A server that knows one flow run, for one token."""

    run: ClassVar[dict[str, Any]] = {}
    deployment: ClassVar[dict[str, Any]] = {}
    status = 200

    def do_GET(self) -> None:
        known = self.headers.get("Authorization") == "Basic good"
        found = self.run if "/flow_runs/" in self.path else self.deployment
        data = json.dumps(found).encode()
        self.send_response(self.status if known else 403)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


async def test_the_server_says_who_may_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_KNOWN_FOR", 0.0)
    id, job = uuid4(), uuid4()
    Api.run = {
        "id": str(id),
        "state_type": "RUNNING",
        "deployment_id": str(uuid4()),
        "labels": {"prefecture.job_id": str(job)},
        "parameters": {"payload": {"image": "debian:12", "memory": "64m", "cpus": 0.5}},
    }
    entrypoint = "flows/run_container.py:run_container"
    Api.deployment = {"entrypoint": entrypoint, "pull_steps": PULL_STEPS}
    good = {"prefecture-run": str(id), "authorization": "Basic good"}
    with serving(Api) as address:
        known = RunsOfApi(f"http://{address}", True)
        assert await known.of(good) == Run(id, job, False, 64 * MIB, 0.5, "none")
        for bad in ({**good, "authorization": "Basic bad"}, {"prefecture-run": str(id)}):
            with pytest.raises(Refused, match="not that of a flow run that goes on"):
                await known.of(bad)
        with pytest.raises(Refused, match="names no flow run"):
            await known.of({**good, "prefecture-run": f"{id}/../.."})
        monkeypatch.setattr(Api, "status", 503)
        assert (await known.of(good)).job == job, "the last answer counts"
        with pytest.raises(Refused, match="does not answer: 503"):
            await RunsOfApi(f"http://{address}", True).of(good)
        monkeypatch.setattr(Api, "status", 200)
        Api.run["state_type"] = "COMPLETED"
        assert (await known.of(good)).is_over
        for other in ({"pull_steps": None}, {"entrypoint": "flows/find_primes.py:find_primes"}):
            monkeypatch.setattr(Api, "deployment", {**Api.deployment, **other})
            with pytest.raises(Refused, match="none of those that start containers"):
                await known.of(good)


async def test_many_made_up_tokens_at_once_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_MOST_WAITING", 4)
    with serving(Api) as address:
        known = RunsOfApi(f"http://{address}", True)
        made_up = [
            {"prefecture-run": str(uuid4()), "authorization": f"Basic {number}"}
            for number in range(20)
        ]
        answers = await asyncio.gather(*map(known.of, made_up), return_exceptions=True)
    statuses = [one.status for one in answers if isinstance(one, Refused)]
    assert (statuses.count(403), statuses.count(429)) == (4, 16)


async def test_a_token_that_is_not_known_is_asked_about_for_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runs, "_LONGEST", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        known = RunsOfApi(f"http://127.0.0.1:{silent.getsockname()[1]}", False)
        with pytest.raises(Refused, match="too many senders are not known yet: ask again later"):
            await known.of({"prefecture-run": str(uuid4()), "authorization": "Basic x"})


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes namespaces of processes")
def test_an_engine_with_processes_of_its_own_is_told_apart() -> None:
    program = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); "
        "print('ready', flush=True); sys.stdin.read()"
    )
    for number, inside in enumerate([[], ["unshare", "--pid", "--fork"]]):
        place = Path(f"/tmp/broker-{uuid4()}")
        command = [*inside, sys.executable, "-c", program, str(place)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as engine:
            assert engine.stdout is not None
            assert engine.stdout.readline() == "ready\n"
            assert shares_processes(place) == (number == 0)
        place.unlink()
