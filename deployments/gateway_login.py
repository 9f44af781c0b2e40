"""The gateway that commands for users work through, and the user's token for it.

`prefecture login` keeps both in `gateway.json`, in the user's configuration folder; PREFECTURE_URL
and PREFECTURE_TOKEN come before it, and so does PREFECT_API_URL, which names a Prefect server.
"""

import json
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tasks.errors import OperatorError
from tasks.settings import (
    api_url,
    configuration_folder,
    get_settings,
    make_private_folder,
    write_private_file,
)

LOOPBACK = {"127.0.0.1", "localhost", "::1"}
"""The names of this machine in addresses."""
FILE = "gateway.json"
"""The file's name in the user's configuration folder."""


@dataclass(frozen=True)
class Login:
    """A gateway, and a token for it."""

    url: str
    """Its address, without `/v1` and without a slash at the end."""
    token: str = field(repr=False)


def current_login() -> Login | None:
    """The gateway to work through; None where commands use Prefect's API.

    Raises OperatorError where the gateway is known and the token is not, or the other way round.
    """
    settings = get_settings()
    token = settings.token.get_secret_value() if settings.token else None
    stored = _stored()
    if settings.url is not None:
        url = address_of(settings.url)
        if token is None and (stored is None or stored.url != url):
            raise OperatorError(
                f"no token is known for the gateway at {url}: set PREFECTURE_TOKEN, or call "
                f"`prefecture login {url}`"
            )
        return Login(url, token or (stored.token if stored else ""))
    if api_url():
        return None
    if stored is not None:
        return Login(stored.url, token or stored.token)
    if token is not None:
        raise OperatorError("PREFECTURE_TOKEN is set, and PREFECTURE_URL is not: set both")
    return None


def store_login(login: Login) -> Path:
    """Keep a login for later commands. Returns its file, which only its owner may read."""
    make_private_folder(configuration_folder())
    file = configuration_folder() / FILE
    content = json.dumps({"url": login.url, "token": login.token})
    write_private_file(file, content.encode())
    return file


def forget_login() -> Login | None:
    """Remove the login that is kept. Returns it; None where there is none."""
    stored = None
    with suppress(OperatorError):  # it is removed just because it cannot be read
        stored = _stored()
    with suppress(FileNotFoundError):
        (configuration_folder() / FILE).unlink()
    return stored


def address_of(url: str) -> str:
    """The address of a gateway as it is kept: people copy it with `/v1` or a slash, too."""
    return url.rstrip("/").removesuffix("/v1")


def need_operator(command: str) -> None:
    """Raise OperatorError where this shell works through a gateway, and a command cannot."""
    login = current_login()
    if login is not None and not api_url():
        raise OperatorError(
            f"`{command}` needs the operator's connection to Prefect's API, and this shell works "
            f"through the gateway at {login.url}: set PREFECT_API_URL, or leave the gateway with "
            + ("`unset PREFECTURE_URL`" if get_settings().url else "`prefecture logout`")
        )


def _stored() -> Login | None:
    file = configuration_folder() / FILE
    try:
        kept = json.loads(file.read_bytes())
        return Login(str(kept["url"]), str(kept["token"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise OperatorError(
            f"{file} cannot be read: call `prefecture logout`, then `prefecture login` again"
        ) from error
