"""What a test needs of the machine: required in CI, else its tests are skipped, with the reason."""

import os
import shutil
import subprocess
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException

CHROMIUM = "/usr/bin/chromium"  # Debian's package; playwright's own download is not reachable


def need_docker() -> None:
    """A Docker engine that answers."""
    try:
        client = docker.from_env()
        client.ping()
        client.close()
    except DockerException:
        _missing("no Docker engine answers: bash .ci/docker-engine start")


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
