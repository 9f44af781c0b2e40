"""Program that bars addresses in its network namespace, and keeps the namespace open.

    python -m tasks.containers.routes GATEWAY BARRED,... ALLOWED,...

Runs in its own container, which has the right to change routes. The user's container shares this
container's network, not that right. Prints `ready` once the routes are set, by rtnetlink(7).
"""

import ipaddress
import os
import signal
import socket
import struct
import sys

_NEW_ROUTE, _ERROR = 24, 2  # kinds of message
_FLAGS = 0x1 | 0x4 | 0x100 | 0x400  # a request, to be acknowledged: replace, or create
_MAIN, _STATIC, _EVERYWHERE = 254, 4, 0
_UNICAST, _UNREACHABLE = 1, 7
_DESTINATION, _GATEWAY = 1, 5  # kinds of attribute


def add(network: str, gateway: str | None) -> None:
    """Route a network through a gateway; None makes it unreachable (`No route to host`).

    Raises OSError where the kernel refuses.
    """
    target = ipaddress.IPv4Network(network)
    kind = _UNREACHABLE if gateway is None else _UNICAST
    body = struct.pack(
        "=BBBBBBBBI",
        *(socket.AF_INET, target.prefixlen, 0, 0, _MAIN, _STATIC, _EVERYWHERE, kind, 0),
    )
    body += _attribute(_DESTINATION, target.network_address.packed)
    if gateway is not None:
        body += _attribute(_GATEWAY, ipaddress.IPv4Address(gateway).packed)
    head = struct.pack("=IHHII", 16 + len(body), _NEW_ROUTE, _FLAGS, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as link:
        link.send(head + body)
        answer = link.recv(4096)
    _, answered = struct.unpack_from("=IH", answer)
    (code,) = struct.unpack_from("=i", answer, 16)
    if answered != _ERROR or code:  # an acknowledgement is an error with the number 0
        raise OSError(-code, os.strerror(-code), network)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value


def main(gateway: str, barred: str, allowed: str) -> None:
    """Set the routes, print `ready`, and wait for a signal."""
    # Allowed networks first: the kernel looks for the gateway in the existing routes.
    for network in filter(None, allowed.split(",")):
        add(network, gateway)
    for network in filter(None, barred.split(",")):
        add(network, None)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    print("ready", flush=True)
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
