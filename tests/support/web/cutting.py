"""A network between two machines that breaks connections."""

import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.support.platform import PATIENCE

_AT_ONCE = 2**16  # bytes


@dataclass
class Network:
    """The way to a server, by another port. What is on it can be read, and cut."""

    port: int
    cut_up: int | None = None
    """Cut the next connection that sends so many bytes."""
    cut_down: int | None = None
    """Cut the next connection that receives so many bytes."""
    hold_up: int | None = None
    """Carry so many bytes of a connection that sends, and no more; cut it once it is `released`."""
    holding: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    sent: list[bytes] = field(default_factory=list[bytes])
    """The first bytes of what clients have sent, as they came."""


@contextmanager
def cutting(port: int) -> Generator[Network]:
    """A network to the server at a port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        network = Network(listener.getsockname()[1])
        threads: list[threading.Thread] = []
        ends: list[socket.socket] = []

        def carry(source: socket.socket, target: socket.socket, name: str) -> None:
            carried = 0
            with suppress(OSError):
                while some := source.recv(_AT_ONCE):
                    carried += len(some)
                    if name == "cut_up":
                        network.sent.append(some[:1000])
                        if network.hold_up is not None and carried >= network.hold_up:
                            network.holding.set()
                            network.released.wait(PATIENCE)
                            break
                    target.sendall(some)
                    most = getattr(network, name)
                    if most is not None and carried >= most:
                        setattr(network, name, None)
                        break
            for each in (source, target):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    ends.append(client)
                    try:
                        server = socket.create_connection(("127.0.0.1", port))
                    except ConnectionRefusedError:
                        client.shutdown(socket.SHUT_RDWR)
                        continue
                    ends.append(server)
                    for pair in ((client, server, "cut_up"), (server, client, "cut_down")):
                        threads.append(threading.Thread(target=carry, args=pair))
                        threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield network
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for each in ends:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
            for each in ends:
                each.close()
