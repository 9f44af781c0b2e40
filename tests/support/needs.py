"""What a test needs of the machine: required in CI, else its tests are skipped, with the reason."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

CHROMIUM = "/usr/bin/chromium"  # Debian's package; playwright's own download is not reachable


def need_docker() -> None:
    """A Docker engine that answers."""
    if not engine_answers():
        _missing("no Docker engine answers: bash .ci/docker-engine start")


@cache
def engine_answers() -> bool:
    """Whether there is a Docker engine."""
    # In a process of its own: a client that finds no engine leaves its socket open, and a warning.
    ask = [sys.executable, "-c", "import docker; docker.from_env().ping()"]
    return subprocess.run(ask, capture_output=True, check=False).returncode == 0


def need_chromium() -> None:
    """Debian's Chromium."""
    if not Path(CHROMIUM).exists():
        _missing(f"no {CHROMIUM}: apt-get install chromium")


def need_postgres() -> Path:
    """Debian's PostgreSQL. Returns the folder of its programs, which is on no one's PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        _missing("no PostgreSQL: apt-get install postgresql")
    return found[-1].parent


def need_mariadb() -> str:
    """Debian's MariaDB. Returns the server's program; the one that makes its tables is on PATH."""
    program = shutil.which("mariadbd", path=_every_path())
    if program is None or shutil.which("mariadb-install-db") is None:
        _missing("no MariaDB: apt-get install mariadb-server-core mariadb-client-core")
    return program


def need_redis() -> str:
    """Debian's Redis. Returns the server's program."""
    return _program("redis-server")


def need_haproxy() -> str:
    """Debian's HAProxy. Returns its program."""
    return _program("haproxy")


def need_compose() -> str:
    """Debian's Docker Compose, which checks a file without an engine. Returns its program."""
    return _program("docker-compose")


def need_namespaces() -> None:
    """The right to make user and mount namespaces, for file systems of a test's own."""
    unshare = shutil.which("unshare")
    tried = [unshare or "unshare", "--user", "--map-root-user", "--mount", "true"]
    if unshare is None or subprocess.run(tried, capture_output=True, check=False).returncode:
        _missing("no user namespaces here: run as root, or allow them")


def need_engine_of_our_own() -> str:
    """The right to start a second Docker engine, which a test may stop. Returns its program."""
    need_docker()
    folders = _every_path()
    program = shutil.which("dockerd", path=folders)
    if os.geteuid() or program is None or shutil.which("ip", path=folders) is None:
        _missing("a Docker engine of the test's own needs root, dockerd and ip: run as root")
    return program


def need_registry() -> str:
    """Debian's docker-registry. Returns its program."""
    return _program("docker-registry")


def need_faketime() -> str:
    """Debian's libfaketime, which tells a program another time. Returns the library."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        _missing("no libfaketime: apt-get install libfaketime")
    return str(found[0])


def need_mounts() -> None:
    """The right to mount a file system where the jobs see it."""
    tried = ["unshare", "--mount", "true"]
    if os.geteuid() or subprocess.run(tried, capture_output=True, check=False).returncode:
        _missing("a disk of the test's own needs the right to mount: run as root")


def need_hosts() -> None:
    """The right to make network namespaces, which are hosts of a test's own."""
    pair = ["type", "veth", "peer", "name", "two"]
    tried = ["unshare", "--net", "ip", "link", "add", "name", "one", *pair]
    if os.geteuid() or subprocess.run(tried, capture_output=True, check=False).returncode:
        _missing("hosts of the test's own need root, and ip: run as root, apt-get install iproute2")


def _program(package: str) -> str:
    """The program of a package of Debian's that has the same name."""
    program = shutil.which(package, path=_every_path())
    if program is None:
        _missing(f"no {package}: apt-get install {package}")
    return program


def _every_path() -> str:
    """PATH, with the folders that not every user's has."""
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin"


def _missing(what: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
