"""A container that waits for runs: made, handed one, listened to, put away."""

import os
import time
from collections.abc import Generator, Mapping
from typing import Any
from uuid import UUID, uuid4

import docker
import requests
from docker.errors import APIError, DockerException, NotFound
from docker.utils import socket as docker_socket

from work_pools.entrypoint.run import STANDBY
from work_pools.forking.protocol import MARK, Report, Request, decoded, encoded
from work_pools.standby import LABEL, name_of

ENGINE_ERRORS = (DockerException, requests.RequestException, OSError)
"""What a call of the engine raises where that refuses, or is away."""

ENGINE_TIMEOUT = 60
"""Seconds for one answer of the engine, as Prefect's worker."""

# A waiting container gets what no job wants; one that serves, what every container gets.
_LOW_SHARES, _SHARES = 2, 1024


class Standby:
    """A standby container, which serves one flow run after another.

    `container`: what it was made as; it serves runs that ask for exactly this.
    Raises one of ENGINE_ERRORS where it cannot be made.
    """

    def __init__(self, client: docker.DockerClient, container: Mapping[str, Any]) -> None:
        self.container = container
        self.served = 0
        """Runs that it has been handed."""
        self.made = self.idle_since = time.monotonic()
        self._api: Any = client.api  # its stubs leave most of its methods untyped
        self._first_name = f"standby-{uuid4().hex[:12]}"
        create: Any = client.containers.create  # its stubs know each argument by itself only
        made = create(
            **{
                **container,
                "command": [*container["command"], STANDBY],
                "labels": {**container["labels"], LABEL: "yes"},
            },
            name=self._first_name,
            stdin_open=True,
            cpu_shares=_LOW_SHARES,
        )
        self.id = str(made.id)
        try:
            # Before it starts: it must not read before there is someone to be gone. It is held
            # open: where this process ends, whatever becomes of it, the container reads an end.
            wanted = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            self._attached = docker.from_env(timeout=ENGINE_TIMEOUT)
            attached: Any = self._attached.api
            self._stream = attached.attach_socket(made.id, params=wanted)
            made.start()
        except ENGINE_ERRORS:
            remove_container(self._api, self.id)
            raise

    def is_good(self) -> bool:
        """Whether it lives, and is of what its image's name means now."""
        try:
            details = self._api.inspect_container(self.id)
            image = self._api.inspect_image(self.container["image"])
        except NotFound:
            return False
        return bool(details["State"]["Running"]) and details["Image"] == image["Id"]

    def hand(self, run: UUID, name: str | None, variables: Mapping[str, str], last: bool) -> None:
        """Hand it a run, after which it serves others unless it is the `last`.

        `name`: what the engine lets the container be called. Raises one of ENGINE_ERRORS.
        """
        if not self.served:
            self._api.update_container(self.id, cpu_shares=_SHARES)
        self.served += 1
        # The name comes last: the supervisor finds the container by it.
        self._api.rename(self.id, name_of(name, run))
        request = Request(run=str(run), variables=dict(variables), last=last)
        data = encoded(request)
        while data:
            data = data[os.write(self._stream.fileno(), data) :]

    def follow(self, run: UUID) -> int | None:
        """Wait for the end of a run that it was handed, and print what the container prints.

        Returns the container's exit code; None where it waits for another run.
        """
        for line in self._lines():
            text, mark, report = line.partition(MARK)
            if text or not mark:
                print(text.decode(errors="replace"), flush=True)
            if mark and _ends(report, run):
                self.idle_since = time.monotonic()
                self._api.rename(self.id, self._first_name)
                return None
        return int(self._api.wait(self.id)["StatusCode"])

    def put_away(self) -> None:
        """Remove it, running or not. Raises one of ENGINE_ERRORS."""
        self.let_go()
        remove_container(self._api, self.id)

    def let_go(self) -> None:
        """Close the connection: it ends after the run that it has."""
        # Closing the stream leaves its socket open, and a client's pool may have it back.
        self._stream._response.close()
        self._attached.close()

    def _lines(self) -> Generator[bytes]:
        """What it prints on stdout and stderr, line by line."""
        begun: dict[int, bytes] = {}
        frames: Any = docker_socket
        for stream, data in frames.frames_iter(self._stream, tty=False):
            *lines, begun[stream] = (begun.get(stream, b"") + data).split(b"\n")
            yield from lines
        yield from (line for line in begun.values() if line)


def _ends(line: bytes, run: UUID) -> bool:
    """Whether a line is the report that a run has ended: a job may print what it likes."""
    try:
        report: Report = decoded(line)
        return report["event"] == "ended" and report["run"] == str(run)
    except (ValueError, TypeError, KeyError):
        return False


def remove_container(api: Any, container: str) -> None:
    """Remove a container; one that is gone, or going, is no error."""
    try:
        api.remove_container(container, force=True, v=True)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != 409:  # 409: a removal is under way already
            raise
