"""Commands with which a machine gets to know a gateway."""

import asyncio
import sys
from getpass import getpass
from urllib.parse import urlsplit

from deployments.cli.output.console import err, say
from deployments.client.gateway.requests import connected
from deployments.gateway_login import LOOPBACK, Login, address_of, forget_login, store_login
from tasks.errors import InvalidPayload, NotAdmitted


def login(url: str) -> None:
    """Let the commands for users work through a gateway, from any machine.

    Asks for the token, without showing it, or reads it from standard input; checks it; and keeps
    both in a file that only you may read, in ~/.config/prefecture. PREFECTURE_URL and
    PREFECTURE_TOKEN do the same for one shell.

    Example: `prefecture login https://prefecture.example.org:4280`

    Parameters
    ----------
    url
        The address of the gateway.
    """
    address = address_of(url)
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise InvalidPayload(
            f"'{url[:200]}' is no address of a gateway: give one such as "
            "https://prefecture.example.org:4280"
        )
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        err.print(
            f"{address} has no TLS: everyone on the way can read the token and your files",
            soft_wrap=True,
        )
    try:
        text = getpass("Token: ") if sys.stdin.isatty() else sys.stdin.readline()
    except EOFError:
        text = ""
    if not text.strip():
        raise NotAdmitted("no token was given: the operator makes one, `prefecture token add NAME`")
    known = Login(address, text.strip())

    user = asyncio.run(user_of(known))
    say(f"{user} at {address}, kept in {store_login(known)}")


async def user_of(known: Login) -> str:
    """The user whose token a gateway takes. Raises NotAdmitted, ServerUnavailable, and
    InvalidPayload where something else answers, such as Prefect's own server."""
    async with connected(known, patience=0) as requests:
        try:
            return str((await requests.get("/me"))["user"])
        except (InvalidPayload, ValueError, KeyError, TypeError):
            raise InvalidPayload(
                f"there is no gateway at {known.url}, but something else: ask its operator for the "
                "address, which `prefecture up` prints"
            ) from None


def logout() -> None:
    """Forget the gateway and the token that `prefecture login` has kept.

    The token stays valid: the operator can revoke it.

    Example: `prefecture logout`
    """
    known = forget_login()
    say(f"logged out of {known.url}" if known else "there was no login")
