"""A standby container: created before its runs, and given one run after another."""

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
"""Errors of a call to the engine: it refuses, or does not answer."""

ENGINE_TIMEOUT = 60
"""Seconds for one answer of the engine, as in Prefect's worker."""

# CPU shares: lowest while the container has had no run, then Docker's default.
_LOW_SHARES, _SHARES = 2, 1024


class Standby:
    """A standby container, which serves one flow run after another.

    `container`: the arguments that it was created with; it serves runs with exactly these. Raises
    one of ENGINE_ERRORS where it cannot be created.
    """

    def __init__(self, client: docker.DockerClient, container: Mapping[str, Any]) -> None:
        self.container = container
        self.served = 0
        """Runs that it was given."""
        self.made = self.idle_since = time.monotonic()
        self._api: Any = client.api  # its stubs leave most of its methods untyped
        self._first_name = f"standby-{uuid4().hex[:12]}"
        create: Any = client.containers.create  # its stubs do not accept **arguments
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
            # Attached before the start: the container reads end-of-file on stdin, and exits, as
            # soon as no client is attached. So it also exits when this process ends in any way.
            wanted = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            self._attached = docker.from_env(timeout=ENGINE_TIMEOUT)
            attached: Any = self._attached.api
            self._stream = attached.attach_socket(made.id, params=wanted)
            made.start()
        except ENGINE_ERRORS:
            remove_container(self._api, self.id)
            raise

    def is_good(self) -> bool:
        """Whether it runs, and its image's name still stands for the same image."""
        try:
            details = self._api.inspect_container(self.id)
            image = self._api.inspect_image(self.container["image"])
        except NotFound:
            return False
        return bool(details["State"]["Running"]) and details["Image"] == image["Id"]

    def assign(self, run: UUID, name: str | None, variables: Mapping[str, str], last: bool) -> None:
        """Give it a run. After a run that is not the `last` it can serve others.

        `name`: first part of the container's new name. Raises one of ENGINE_ERRORS.
        """
        if not self.served:
            self._api.update_container(self.id, cpu_shares=_SHARES)
        self.served += 1
        # Renamed only now: the supervisor finds the run's container by this name.
        self._api.rename(self.id, name_of(name, run))
        request = Request(run=str(run), variables=dict(variables), last=last)
        data = encoded(request)
        while data:
            data = data[os.write(self._stream.fileno(), data) :]

    def follow(self, run: UUID) -> int | None:
        """Wait for the end of the run that it was given, and print the container's output.

        Returns the container's exit code; None where the container can serve another run.
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

    def remove(self) -> None:
        """Remove it, running or not. Raises one of ENGINE_ERRORS."""
        self.detach()
        remove_container(self._api, self.id)

    def detach(self) -> None:
        """Close the connection: the container exits after its current run."""
        # Closing the stream alone leaves its socket open, perhaps in the client's pool.
        self._stream._response.close()
        self._attached.close()

    def _lines(self) -> Generator[bytes]:
        """The lines that it prints on stdout and stderr."""
        begun: dict[int, bytes] = {}
        frames: Any = docker_socket
        for stream, data in frames.frames_iter(self._stream, tty=False):
            *lines, begun[stream] = (begun.get(stream, b"") + data).split(b"\n")
            yield from lines
        yield from (line for line in begun.values() if line)


def _ends(line: bytes, run: UUID) -> bool:
    """Whether a line is the report that `run` has ended. A job may print any other text."""
    try:
        report: Report = decoded(line)
        return report["event"] == "ended" and report["run"] == str(run)
    except (ValueError, TypeError, KeyError):
        return False


def remove_container(api: Any, container: str) -> None:
    """Remove a container, running or not; it is no error where it is gone or being removed."""
    try:
        api.remove_container(container, force=True, v=True)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != 409:  # 409: a removal is under way already
            raise
