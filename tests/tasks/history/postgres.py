"""A real PostgreSQL server in a temporary folder, for as long as a block runs."""

import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import psycopg
from psycopg.sql import SQL, Identifier

from tests.support.needs import need_postgres
from tests.support.platform import free_port
from tests.support.servers import running

_USER = "postgres"
# To become another user forgets the signal at the end of who started it: so it is said once more.
_AS_ITSELF = (
    *(shutil.which("setpriv") or "setpriv", "--reuid", _USER, "--regid", _USER, "--clear-groups"),
    *("--pdeathsig", "TERM"),
)


def new_database(server: str) -> str:
    """Make an empty database, and return its name."""
    name = f"history_{uuid4().hex}"
    with psycopg.connect(f"{server}postgres", autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        # What a history must not take over.
        zone = "ALTER DATABASE {} SET timezone TO 'Asia/Kolkata'"
        connection.execute(SQL(zone).format(Identifier(name)))
    return name


def is_answering(port: int) -> bool:
    """Whether a server at a port of this host takes connections."""
    ready = [str(need_postgres() / "pg_isready"), "-h", "127.0.0.1", "-p", str(port)]
    return subprocess.run(ready, capture_output=True, check=False).returncode == 0


def initialized(folder: Path, port: int, address: str | None = None) -> list[str]:
    """Make an empty PostgreSQL in a folder. Returns the command that serves it at a port.

    `address`: another one of this machine at which it listens, besides 127.0.0.1.
    """
    programs = need_postgres()
    data = folder / "data"
    # PostgreSQL refuses root: it runs as the user whom Debian's package makes for it.
    root = os.geteuid() == 0
    runner = [*_AS_ITSELF] if root else []
    if root:
        shutil.chown(folder, _USER, _USER)
    make = ["--pgdata", str(data), "--auth", "trust", "--username", _USER, "--no-sync"]
    subprocess.run([*runner, str(programs / "initdb"), *make], check=True, capture_output=True)
    listens = ["127.0.0.1", *([address] if address else [])]
    if address:
        with (data / "pg_hba.conf").open("a") as file:
            file.write(f"host all all {address}/30 trust\n")
    options = {
        "fsync": "off",
        "listen_addresses": ",".join(listens),
        "unix_socket_directories": "",
    }
    settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    return [*runner, str(programs / "postgres"), "-D", str(data), "-p", str(port), *settings]


@contextmanager
def postgres_server(folder: Path) -> Generator[str]:
    """`initdb` and a server on a port of its own. Gives postgresql://…/ without a database."""
    port = free_port()
    # Not in pytest's folders: each pytest that starts closes them to other users.
    with TemporaryDirectory() as own:
        serve = initialized(Path(own), port)
        with running("PostgreSQL", serve, folder / "log", lambda: is_answering(port)):
            yield f"postgresql://{_USER}@127.0.0.1:{port}/"
