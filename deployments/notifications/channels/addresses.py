"""Which network addresses may be reached: a webhook must not be a way into this host's own network.

A name is resolved once, each address that it has is judged, and the connection goes to one of
those: a name that means something else a moment later gains nothing.
"""

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from tasks.errors import DeliveryFailed

_NAT64 = IPv6Network("64:ff9b::/96")  # the last 32 bits are an IPv4 address: RFC 6052


class Unresolved(DeliveryFailed):
    """A host has no address for now. Check its name."""


def is_public(address: str) -> bool:
    """Whether an IP address is one that the whole internet can reach."""
    ip = ip_address(address)
    inner = _within(ip)
    if inner is not None:
        return is_public(str(inner))
    private = (
        ip.is_multicast or ip.is_reserved or (isinstance(ip, IPv6Address) and ip.is_site_local)
    )
    return ip.is_global and not private


def _within(ip: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for."""
    if isinstance(ip, IPv4Address):
        return None
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.ipv4_mapped or ip.sixtofour


async def resolve(host: str, port: int, allow_private: bool) -> list[str]:
    """The IP addresses of a host, best first.

    Raises DeliveryFailed where one of them is private and that is not allowed, and Unresolved where
    there is none.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unresolved(f"{host} cannot be resolved: check the name") from error
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    if not allow_private and not all(is_public(address) for address in addresses):
        raise DeliveryFailed(
            f"{host} is in a private network: set PREFECTURE_ALLOW_PRIVATE_WEBHOOKS=true if "
            "webhooks may go there"
        )
    return addresses
