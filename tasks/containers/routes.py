"""Program that bars addresses in its network namespace, and keeps the namespace open.

    python -m tasks.containers.routes GATEWAY BARRED,... NAME_SERVER,...

Runs in its own container, which has the right to change routes. The user's container shares this
container's network, not that right. Prints `ready` once the routes are set, by rtnetlink(7). Of the
name servers, port 53 alone is reached: by routes of a table of its own, for that port.
"""

import ipaddress
import os
import signal
import socket
import struct
import sys

_NEW_ROUTE, _NEW_RULE, _ERROR = 24, 32, 2  # kinds of message
_FLAGS = 0x1 | 0x4 | 0x100 | 0x400  # a request, to be acknowledged: replace, or create
_STATIC, _EVERYWHERE = 4, 0
_UNICAST, _UNREACHABLE = 1, 7
_DESTINATION, _GATEWAY = 1, 5  # kinds of attribute of a route
_TO_TABLE = 1  # action of a rule
_PRIORITY, _PROTOCOL, _PORTS = 6, 22, 24  # kinds of attribute of a rule
_MAIN, _NAMES = 254, 53
"""Tables: the one for all packets, and the one for packets to port 53."""
_NAME_PORT = 53
_BEFORE_MAIN = 100  # the main table has the priority 32766


def add(network: str, gateway: str | None, table: int = _MAIN) -> None:
    """Route a network through a gateway; None makes it unreachable (`No route to host`).

    Raises OSError where the kernel refuses.
    """
    target = ipaddress.IPv4Network(network)
    kind = _UNREACHABLE if gateway is None else _UNICAST
    body = struct.pack(
        "=BBBBBBBBI",
        *(socket.AF_INET, target.prefixlen, 0, 0, table, _STATIC, _EVERYWHERE, kind, 0),
    )
    body += _attribute(_DESTINATION, target.network_address.packed)
    if gateway is not None:
        body += _attribute(_GATEWAY, ipaddress.IPv4Address(gateway).packed)
    _request(_NEW_ROUTE, body, network)


def use_for_names(protocol: int) -> None:
    """Have packets of a protocol to port 53 go by the table of name servers first.

    Raises OSError where the kernel refuses, and where it has no such rules.
    """
    body = struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, _NAMES, 0, 0, _TO_TABLE, 0)
    body += _attribute(_PRIORITY, struct.pack("=I", _BEFORE_MAIN))
    body += _attribute(_PROTOCOL, struct.pack("=B", protocol))
    body += _attribute(_PORTS, struct.pack("=HH", _NAME_PORT, _NAME_PORT))
    _request(_NEW_RULE, body, "rules by port (CONFIG_IP_MULTIPLE_TABLES of the kernel)")


def _request(kind: int, body: bytes, what: str) -> None:
    head = struct.pack("=IHHII", 16 + len(body), kind, _FLAGS, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as link:
        link.send(head + body)
        answer = link.recv(4096)
    _, answered = struct.unpack_from("=IH", answer)
    (code,) = struct.unpack_from("=i", answer, 16)
    if answered != _ERROR or code:  # an acknowledgement is an error with the number 0
        raise OSError(-code, os.strerror(-code), what)


def _attribute(kind: int, value: bytes) -> bytes:
    # Each begins at a multiple of four bytes; its length is that of its content.
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def main(gateway: str, barred: str, name_servers: str) -> None:
    """Set the routes, print `ready`, and wait for a signal."""
    # Name servers first: the kernel looks for the gateway in the existing routes.
    for server in filter(None, name_servers.split(",")):
        add(server, gateway, _NAMES)
    for protocol in (socket.IPPROTO_UDP, socket.IPPROTO_TCP):
        use_for_names(protocol)
    for network in filter(None, barred.split(",")):
        add(network, None)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.write(sys.stdout.fileno(), b"ready\n")  # in one piece, as the broker looks for it
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
