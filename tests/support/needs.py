"""What a test needs of the machine: required in CI, else its tests are skipped, with the reason."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

CHROMIUM = "/usr/bin/chromium"  # Debian's package; playwright's own download is not reachable


def need_docker() -> None:
    """A Docker engine that answers."""
    if not _engine_answers():
        _missing("no Docker engine answers: bash .ci/docker-engine start")


@cache
def _engine_answers() -> bool:
    # In a process of its own: a client that finds no engine leaves its socket open, and a warning.
    ask = [sys.executable, "-c", "import docker; docker.from_env().ping()"]
    return subprocess.run(ask, capture_output=True, check=False).returncode == 0


def need_chromium() -> None:
    """Debian's Chromium."""
    if not Path(CHROMIUM).exists():
        _missing(f"no {CHROMIUM}: apt-get install chromium")


def need_namespaces() -> None:
    """The right to make user and mount namespaces, for file systems of a test's own."""
    unshare = shutil.which("unshare")
    tried = [unshare or "unshare", "--user", "--map-root-user", "--mount", "true"]
    if unshare is None or subprocess.run(tried, capture_output=True, check=False).returncode:
        _missing("no user namespaces here: run as root, or allow them")


def _missing(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)
