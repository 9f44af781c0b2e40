"""Databases for the first start of a server, made once: of Prefect, and of a whole Prefecture.

To make its tables takes a server 8 s of CPU, and to put everything on it another 3 s. Most tests
want a server of their own. One that starts from nothing is seen by the tests of the demo, which
start it as a user does.
"""

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

_TREE = Path(__file__).resolve().parents[2]
# What `prefecture apply` puts on a server is made of these.
_APPLIED = ("deployments", "flows", "tasks", "work_pools", "prefect.yaml")
_OLD = 24 * 3600.0  # seconds without use, after which a database is removed
_APPLY = """
import asyncio, sys
from deployments.apply import apply
from tasks.contracts import Pool
from tasks.settings import get_settings
asyncio.run(apply(Pool(sys.argv[1]), get_settings(), sys.argv[2] or None))
"""


def put_database(home: Path, pool: str | None = None, image: str = "") -> None:
    """Have the first start in a home find its tables made; a home with a database keeps it.

    With `pool`, also what `prefecture apply` puts on a server, which `up` then brings up to date:
    for that home, for its settings. `image`: of the jobs, on the pool `docker`.
    """
    database = home / "prefect" / "prefect.db"
    if not database.exists():
        made = _migrated() if pool is None else _applied(pool, image)
        database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(made, database)


@contextmanager
def one_at_a_time() -> Generator[None]:
    """Hold the lock under which processes of tests make what all of them use."""
    with (Path(tempfile.gettempdir()) / f"prefecture-tests-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _migrated() -> Path:
    """Prefect's tables of the installed version, with nothing in them."""
    prefect = str(Path(sys.executable).with_name("prefect"))

    def make(database: Path) -> None:
        _run(database, prefect, "server", "database", "upgrade", "--yes")

    return _made(f"prefect-{version('prefect')}", make)


def _applied(pool: str, image: str) -> Path:
    """The same, with what this tree's `prefecture apply` puts on a server."""
    migrated = _migrated()

    def make(database: Path) -> None:
        shutil.copyfile(migrated, database)
        _run(database, sys.executable, "-W", "error", "-c", _APPLY, pool, image)

    return _made(f"{pool}-{version('prefect')}-{_digest(image)}", make)


@cache
def _digest(image: str) -> str:
    digest = sha256(image.encode())
    for name in _APPLIED:
        for file in sorted((_TREE / name).rglob("*")) or [_TREE / name]:
            if file.is_file() and file.parent.name != "__pycache__":
                digest.update(file.read_bytes())
    return digest.hexdigest()[:20]


def _made(name: str, make: Callable[[Path], None]) -> Path:
    """The database of a name, made where there is none."""
    folder = Path(tempfile.gettempdir()) / f"prefecture-tests-{os.getuid()}"
    folder.mkdir(exist_ok=True, mode=0o700)
    made = folder / f"{name}.db"
    with one_at_a_time():
        if made.exists():
            made.touch()
        else:
            for other in folder.glob("*.db"):
                if other.stat().st_mtime < time.time() - _OLD:
                    other.unlink()
            with tempfile.TemporaryDirectory(dir=folder) as place:
                make(Path(place, "new.db"))
                # Of one file, whatever SQLite has left beside it.
                with closing(sqlite3.connect(Path(place, "new.db"))) as database:
                    database.execute("VACUUM INTO ?", (f"{place}/whole.db",))
                Path(place, "whole.db").replace(made)
    return made


def _run(database: Path, *command: str) -> None:
    """Run a command with a database, on the server that Prefect's client starts for itself."""
    place = str(database.parent)
    own = {
        "PREFECT_HOME": place,
        "PREFECTURE_HOME": place,
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{database}",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "600",
        "PREFECTURE_ANALYTICS": "false",
        "DO_NOT_TRACK": "1",
    }
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"} | own
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
