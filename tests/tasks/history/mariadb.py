"""A real MariaDB server in a temporary folder, for as long as a block runs."""

import contextlib
import os
import pwd
import subprocess
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import pymysql
from sqlalchemy import make_url

from tests.support.needs import need_mariadb
from tests.support.platform import free_port
from tests.support.servers import running

_WHO = "CREATE USER anna@'%' IDENTIFIED BY 'hush';\nGRANT ALL ON *.* TO anna@'%';\n"
_SERVER = {
    # What a history must not take over: neither the clock nor the texts of the server.
    "default-time-zone": "+05:30",
    "character-set-server": "latin1",
    "bind-address": "127.0.0.1",
    "innodb-flush-method": "nosync",  # nothing of this outlives the tests
}


def new_database(server: str) -> str:
    """Make an empty database, and return its name."""
    name = f"history_{uuid4().hex}"
    with closing(_connect(server)) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    return name


@contextmanager
def mariadb_server(folder: Path) -> Generator[str]:
    """Its tables, and a server on a port of its own. Gives mysql://…/ without a database."""
    program = need_mariadb()
    data, port = folder / "data", free_port()
    # It refuses to be root's, unless an option says so.
    common = ["--no-defaults", f"--datadir={data}", f"--user={pwd.getpwuid(os.geteuid()).pw_name}"]
    # In a shared one, a server that starts removes the temporary tables of all others.
    temporary = folder / "tmp"
    temporary.mkdir()
    common += [f"--tmpdir={temporary}"]
    make = ["mariadb-install-db", *common, "--auth-root-authentication-method=normal"]
    subprocess.run([*make, "--skip-test-db"], check=True, capture_output=True)
    (folder / "who.sql").write_text(_WHO)
    settings = [f"--{name}={value}" for name, value in _SERVER.items()]
    own = [f"--port={port}", f"--socket={folder / 'socket'}", f"--init-file={folder / 'who.sql'}"]
    address = f"mysql://anna:hush@127.0.0.1:{port}/"

    def answers() -> bool:
        with contextlib.suppress(pymysql.OperationalError):
            _connect(address).close()
            return True
        return False

    with running("MariaDB", [program, *common, *settings, *own], folder / "log", answers):
        yield address


def _connect(server: str) -> pymysql.Connection:
    url = make_url(server)
    return pymysql.connect(
        host=url.host, port=url.port or 0, user=url.username, password=str(url.password)
    )
