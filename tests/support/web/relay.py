"""A line between a client and a server of this machine, which a test can cut."""

import selectors
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress

_READ = 65536  # bytes
_LOOK = 0.1  # seconds


class Relay:
    """Listens at a port, and passes on what comes to another. Cut, it refuses connections."""

    def __init__(self, behind: int) -> None:
        self._behind = behind
        self._listener = self._listen(0)
        self.port = int(self._listener.getsockname()[1])
        self._is_cut = threading.Event()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def cut(self) -> None:
        """End all connections, and accept none."""
        self._is_cut.set()

    def mend(self) -> None:
        """Accept connections again."""
        self._is_cut.clear()

    def close(self) -> None:
        """End everything."""
        self._is_over.set()
        self._thread.join()
        self._listener.close()

    @staticmethod
    def _listen(port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port), backlog=100)
        listener.settimeout(_LOOK)
        return listener

    def _serve(self) -> None:
        """Accept connections, each with a thread that copies in both directions."""
        copying: list[threading.Thread] = []
        while not self._is_over.is_set():
            with suppress(TimeoutError):
                client, _ = self._listener.accept()
                if self._is_cut.is_set():
                    client.close()
                    continue
                copying.append(threading.Thread(target=self._copy, args=(client,)))
                copying[-1].start()
        for each in copying:
            each.join()

    def _copy(self, client: socket.socket) -> None:
        with (
            client,
            suppress(OSError),
            socket.create_connection(("127.0.0.1", self._behind)) as server,
        ):
            ends = {client: server, server: client}
            with selectors.DefaultSelector() as selector:
                for end in ends:
                    selector.register(end, selectors.EVENT_READ)
                while not (self._is_cut.is_set() or self._is_over.is_set()):
                    for key, _ in selector.select(_LOOK):
                        end = key.fileobj
                        assert isinstance(end, socket.socket)
                        some = end.recv(_READ)
                        if not some:
                            return
                        ends[end].sendall(some)


@contextmanager
def relay(behind: int) -> Generator[Relay]:
    """A line to the server at a port of this machine."""
    line = Relay(behind)
    try:
        yield line
    finally:
        line.close()
