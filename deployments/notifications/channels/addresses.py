"""The network addresses that webhooks may reach: none in this host's own network, by default.

A name is resolved once, all its addresses are checked, and the connection goes to one of them. A
name that resolves differently a moment later (DNS rebinding) has no effect.
"""

import asyncio
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from tasks.errors import DeliveryFailed

_NAT64 = IPv6Network("64:ff9b::/96")  # the last 32 bits are an IPv4 address: RFC 6052


class Unresolved(DeliveryFailed):
    """The name of a host does not resolve now. Check the name."""


def is_public(address: str) -> bool:
    """Whether the whole internet can reach an IP address."""
    ip = ip_address(address)
    inner = _embedded_ipv4(ip)
    if inner is not None:
        return is_public(str(inner))
    private = (
        ip.is_multicast or ip.is_reserved or (isinstance(ip, IPv6Address) and ip.is_site_local)
    )
    return ip.is_global and not private


def _embedded_ipv4(ip: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address inside an IPv6 address (NAT64, mapped or 6to4)."""
    if isinstance(ip, IPv4Address):
        return None
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.ipv4_mapped or ip.sixtofour


async def resolve(host: str, port: int, allow_private: bool) -> list[str]:
    """The IP addresses of a host, best first.

    Raises Unresolved where the host has no address, and DeliveryFailed where an address is private
    and private addresses are not allowed.
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
            "webhooks may be sent there"
        )
    return addresses
