"""A client of server-sent events, which keeps what it has received."""

import json
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.platform import PATIENCE, wait_until


@dataclass
class Message:
    """One message."""

    event: str = ""
    id: str = ""
    data: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass
class Heard:
    """What a stream has sent."""

    messages: list[Message] = field(default_factory=list[Message])
    last_id: str = ""
    is_over: bool = False
    status: int = 0

    def of(self, job: object) -> list[Message]:
        """The messages about a job."""
        return [message for message in self.messages if message.data.get("job") == str(job)]

    def states(self, job: object) -> list[str]:
        """The states of a job, in the order in which they were heard."""
        return [message.data["state"] for message in self.of(job)]

    def wait(self, condition: Callable[["Heard"], Any], what: str) -> None:
        """Wait until a condition holds."""
        wait_until(lambda: condition(self), what=f"{what}; heard {self.messages}")

    def wait_for(self, event: str) -> None:
        """Wait for a message of a kind."""
        self.wait(lambda heard: event in [each.event for each in heard.messages], event)

    def receive(self, line: str, message: Message) -> Message:
        """Take a line; the message that it belongs to."""
        name, _, value = line.partition(": ")
        match name:
            case "event":
                message.event = value
            case "id":
                message.id = self.last_id = value
            case "data":
                message.data = json.loads(value)
            case "" if not line:
                if message.event:
                    self.messages.append(message)
                return Message()
            case _:
                pass
        return message


@contextmanager
def listening(user: httpx.Client, path: str, after: str | None = None) -> Generator[Heard]:
    """Hear what a stream sends while the block runs. The stream is open when the block begins."""
    heard, opened = Heard(), threading.Event()
    sockets: list[socket.socket] = []

    def listen() -> None:
        headers = {} if after is None else {"Last-Event-ID": after}
        with (
            suppress(httpx.HTTPError),
            user.stream("GET", path, headers=headers, timeout=None) as answer,
        ):
            sockets.append(answer.extensions["network_stream"].get_extra_info("socket"))
            heard.status = answer.status_code
            message = Message()
            for line in answer.iter_lines():
                message = heard.receive(line, message)
                if heard.last_id:
                    opened.set()
        heard.is_over = True
        opened.set()

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        assert opened.wait(PATIENCE), path
        yield heard
    finally:
        for each in sockets:
            with suppress(OSError):  # it is closed already
                each.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)
        assert not thread.is_alive()
