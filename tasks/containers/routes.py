"""Bars addresses to a network namespace, and holds it: what a container with a network is put in.

    python -m tasks.containers.routes GATEWAY BARRED,... ALLOWED,...

Runs in a container of its own, with the right to change routes, from which the user's container
takes its network and not that right. Says `ready` once the routes stand. Linux's rtnetlink(7).
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
    """Send what goes to a network by a gateway; by None, nowhere: it meets `No route to host`."""
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
    if answered != _ERROR or code:  # an acknowledgement is an error of the number 0
        raise OSError(-code, os.strerror(-code), network)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value


def main(gateway: str, barred: str, allowed: str) -> None:
    """Set the routes, say so, and wait for the end."""
    # First what is allowed: a way is looked up among the routes that stand already.
    for network in filter(None, allowed.split(",")):
        add(network, gateway)
    for network in filter(None, barred.split(",")):
        add(network, None)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    print("ready", flush=True)
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
