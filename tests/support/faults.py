"""A storage that fails for a while: an HTTP server in front of a real S3 server."""

import http.client
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal

Fault = Literal["busy", "refused", "unknown", "dropped", "cut", "silent", "unheard"]
_STATUS = {"busy": 503, "refused": 403, "unknown": 501}
_OF_ONE_HOP = {"connection", "transfer-encoding"}


@dataclass
class FaultyStorage:
    """Passes on what it is asked, but for the faults that are still due, and counts."""

    behind: int
    """The port of the S3 server."""
    address: str = ""
    asked: list[str] = field(default_factory=list[str])
    """Every request that came: `HEAD /photos/a.jpg`."""
    _due: list[tuple[str, Fault]] = field(default_factory=list[tuple[str, Fault]])
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, request: str, fault: Fault, times: int) -> None:
        """The next `times` requests that begin like `request` meet `fault`."""
        with self._lock:
            self._due.extend((request, fault) for _ in range(times))

    def count(self, request: str) -> int:
        """How many requests came that begin so."""
        with self._lock:
            return sum(asked.startswith(request) for asked in self.asked)

    def reset(self) -> None:
        """Forget the faults that are due, and what was asked."""
        with self._lock:
            self.asked.clear()
            self._due.clear()

    def receive(self, request: str) -> Fault | None:
        """Note a request; the fault that it shall meet."""
        with self._lock:
            self.asked.append(request)
            for entry in self._due:
                if request.startswith(entry[0]):
                    self._due.remove(entry)
                    return entry[1]
        return None


@contextmanager
def faulty_storage(behind: str) -> Generator[FaultyStorage]:
    """A storage in front of the S3 server at the address `behind`, on this machine."""
    storage = FaultyStorage(int(behind.rpartition(":")[2]))

    class Handler(_Handler):
        front = storage

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        storage.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield storage
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    front: FaultyStorage

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.front.receive(f"{self.command} {self.path}")
        if fault in _STATUS:
            self.send_response(_STATUS[fault])
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif fault == "silent":
            self.connection.recv(1)  # until the client gives up and hangs up
            self.close_connection = True
        elif fault == "dropped":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
        else:
            self._pass_on(body, fault)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def _pass_on(self, sent: bytes, fault: Fault | None) -> None:
        behind = http.client.HTTPConnection("127.0.0.1", self.front.behind, timeout=120)
        try:
            headers = {k: v for k, v in self.headers.items() if k.lower() != "expect"}
            behind.request(self.command, self.path, sent or None, headers)
            answer = behind.getresponse()
            body = answer.read()
        finally:
            behind.close()
        if fault == "unheard":  # it is done, and nobody is told
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in _OF_ONE_HOP:
                self.send_header(name, value)
        if answer.chunked:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)
        self.close_connection = fault == "cut"

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""
