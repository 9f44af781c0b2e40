"""The addresses that a user's container with a network must not reach."""

import ctypes
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from tasks.settings import api_url

_SIOCGIFCONF = 0x8912  # netdevice(7): the names and IPv4 addresses of all interfaces
_INTERFACE = "16sHH4s16x"  # struct ifreq on 64 bits: name, family, port, address
_MOST_ADDRESSES = 4096
# Addresses of this host, its private networks and its cloud provider: RFC 6890.
_INSIDE = (
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15"),
)


def barred(subnet: ipaddress.IPv4Network, servers: Sequence[str]) -> list[str]:
    """Networks that routes are to bar: private ones, this host, the API, name servers.

    `subnet`: that of the containers; `servers`: name servers. To call in the host's own network.
    """
    found = [*_INSIDE, *map(str, subnet.subnets()), *(f"{server}/32" for server in servers)]
    own = sorted({*_addresses_of_the_api(), *_addresses_of_this_host()})
    return found + [f"{address}/32" for address in own]


def route_arguments(
    subnet: ipaddress.IPv4Network, gateway: str, servers: Sequence[str]
) -> list[str]:
    """The arguments of tasks.containers.routes. `gateway`: of the containers' network."""
    names = [f"{server}/32" for server in servers]
    return [gateway, ",".join(barred(subnet, servers)), ",".join(names)]


def name_servers(text: str) -> list[str]:
    """The IPv4 name servers in the text of a resolv.conf, without loopback addresses."""
    servers: list[str] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and ":" not in words[1]:
            address = ipaddress.IPv4Address(words[1])
            if not address.is_loopback:
                servers.append(words[1])
    return servers


def _addresses_of_the_api() -> Iterable[str]:
    name = urlsplit(api_url() or "").hostname
    if name is None:
        return []
    found = {str(entry[4][0]) for entry in socket.getaddrinfo(name, None, socket.AF_INET)}
    # Not a loopback address: each container has its own.
    return [a for a in found if not ipaddress.ip_address(a).is_loopback]


def _addresses_of_this_host() -> list[str]:
    """The IPv4 addresses of the network that the flow's container has: that of its host."""
    size = struct.calcsize(_INTERFACE)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        buffer = ctypes.create_string_buffer(size * _MOST_ADDRESSES)
        wanted = struct.pack("iP", len(buffer), ctypes.addressof(buffer))
        (used, _) = struct.unpack("iP", fcntl.ioctl(any_socket, _SIOCGIFCONF, wanted))
    found = [ipaddress.ip_address(a) for *_, a in struct.iter_unpack(_INTERFACE, buffer.raw[:used])]
    return [str(address) for address in found if not address.is_loopback]
