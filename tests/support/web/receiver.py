"""A real HTTP server on this machine that webhooks are delivered to, and that can misbehave."""

import ssl
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Received(NamedTuple):
    """A request, as it came in. The names of headers are in lower case."""

    headers: Mapping[str, str]
    body: bytes
    path: str = "/"


@dataclass(frozen=True)
class Answer:
    """What the receiver says to a request."""

    status: int = HTTPStatus.NO_CONTENT
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: bytes = b""
    drip: float | None = None
    """Seconds between one byte and the next, headers included. Default: all at once."""


Behaviour = int | Answer | Callable[[Received], "int | Answer | None"]
"""A status, a whole answer, or a function that chooses one; for None the receiver hangs."""


@dataclass
class Receiver:
    """A running receiver. Each request is appended to `requests` before it is answered."""

    url: str
    answer: Behaviour = HTTPStatus.NO_CONTENT
    requests: list[Received] = field(default_factory=list[Received])
    closing: threading.Event = field(default_factory=threading.Event)
    """Ends what hangs and drips."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def receive(self, received: Received) -> Answer | None:
        """Keep a request and choose the answer to it; for None there is none."""
        with self._lock:  # requests are served by threads
            self.requests.append(received)
            chosen = self.answer(received) if callable(self.answer) else self.answer
        return Answer(chosen) if isinstance(chosen, int) else chosen


@contextmanager
def receiver(context: ssl.SSLContext | None = None, port: int = 0) -> Generator[Receiver]:
    """A receiver on a port of 127.0.0.1, over TLS where a context is given.

    One that is started on the port of an earlier one is that receiver, back again.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            received = Received(headers, self.rfile.read(length), self.path)
            answer = running.receive(received)
            for piece in _pieces(answer):
                try:
                    self.wfile.write(piece)
                except OSError:
                    break  # the sender has had enough
                if answer and answer.drip and running.closing.wait(answer.drip):
                    break
            if answer is None:
                running.closing.wait()
            self.close_connection = True

        do_GET = do_POST

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: what came in stands in `requests`."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Nothing: senders hang up on us, by design."""

    server = Server(("127.0.0.1", port), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if context is None else "https"
    running = Receiver(f"{scheme}://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield running
    finally:
        running.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _pieces(answer: Answer | None) -> Iterator[bytes]:
    if answer is None:
        return
    lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    lines += ["connection: close", f"content-length: {len(answer.body)}", "", ""]
    whole = "\r\n".join(lines).encode() + answer.body
    if answer.drip is None:
        yield whole
    else:
        yield from (whole[i : i + 1] for i in range(len(whole)))
