"""The password of the server that `up` starts: made at a home's first start, and kept in a file.

Prefect has one user, who may do everything. A program that can read the file can run others as the
operator, as with Docker's socket. Jobs get a token of their own run in its place.
"""

import secrets
from collections.abc import Mapping
from pathlib import Path

from tasks.settings import Settings, write_private_file

FILE = "password"
"""The file's name in a home."""
SERVER_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"
"""In the server's environment: user and password, as `user:password`."""
_USER = "admin"
_BYTES = 32  # of randomness


def read_password(home: Path) -> str | None:
    """User and password of a home, as `user:password`; None where it has none yet."""
    try:
        return (home / FILE).read_text().strip()
    except (FileNotFoundError, PermissionError):  # the home may be somebody else's
        return None


def server_password(settings: Settings, server: Mapping[str, str]) -> str:
    """The password of a server with the environment `server`: the operator's own where that names
    one, else the home's, which is made where there is none."""
    if given := server.get(SERVER_VARIABLE):
        return given
    if (known := read_password(settings.home)) is None:
        known = f"{_USER}:{secrets.token_urlsafe(_BYTES)}"
        write_private_file(settings.home / FILE, known.encode())
    return known
