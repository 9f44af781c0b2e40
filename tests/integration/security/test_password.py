"""The password that `up` makes at a home's first start: who knows it, and who needs it."""

import json
import os
import subprocess
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from tests.support.platform import Platform, platform_up, run_command

_GIVEN = ("PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING")


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Generator[Platform]:
    """A Prefecture for which nobody has chosen a password."""
    with pytest.MonkeyPatch.context() as patch:
        for name in _GIVEN:
            patch.delenv(name)
        with platform_up(tmp_path_factory.mktemp("password"), "process") as platform:
            yield platform


def prefecture(
    platform: Platform, *words: str, home: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """A command of somebody who has set nothing but the home, and the server's address."""
    environment = {name: value for name, value in os.environ.items() if name not in _GIVEN}
    environment |= {"PREFECTURE_HOME": str(home or platform.home), "PREFECT_API_URL": platform.api}
    return run_command("prefecture", *words, env=environment)


def password(platform: Platform) -> str:
    return (platform.home / "password").read_text()


def test_commands_find_it_and_others_do_not(up: Platform, tmp_path: Path) -> None:
    done = prefecture(up, "submit", "find-primes", '{"upper_bound": 10}', "out", "--watch")
    assert done.returncode == 0, done.stderr
    assert prefecture(up, "password").stdout.strip() == password(up)
    stranger = prefecture(up, "jobs", home=tmp_path)
    assert (stranger.returncode, stranger.stderr.count("\n")) == (1, 1)
    assert "wants a password" in stranger.stderr
    assert "prefecture password" in stranger.stderr
    unknown = prefecture(up, "password", home=tmp_path)
    assert (unknown.returncode, unknown.stderr.count("\n")) == (1, 1)


def test_its_file_is_the_owners(up: Platform) -> None:
    file = up.home / "password"
    assert file.stat().st_mode & 0o777 == 0o600
    user, _, secret = password(up).partition(":")
    assert (user, len(secret)) == ("admin", 43)
    for path in up.home.rglob("*"):
        if path.is_file() and path != file:
            assert password(up).encode() not in path.read_bytes(), path


def test_nobody_without_it_reads_or_writes(up: Platform) -> None:
    for method, path in [
        ("GET", "/admin/settings"),
        ("POST", "/flow_runs/filter"),
        ("POST", "/deployments/"),
        ("PATCH", "/work_pools/process"),
        ("GET", "/block_types/slug/secret/block_documents?include_secrets=true"),
    ]:
        for auth in (None, ("admin", "guessed"), ("run", "guessed")):
            answer = httpx.request(method, up.api + path, json={}, auth=auth)
            assert answer.status_code == 401, (method, path, auth)


def test_the_link_logs_in(up: Platform) -> None:
    printed = [line.split()[-1] for line in up.output.splitlines() if line.startswith("UI ")]
    for address in (*printed, prefecture(up, "ui").stdout.strip()):
        page, _, token = address.partition("#")
        assert page == f"{up.ui}/prefecture/login"
        answer = httpx.post(page, content=token)
        own = {"Authorization": f"Basic {answer.json()['credentials']}"}
        assert httpx.get(f"{up.api}/admin/version", headers=own).is_success
        assert httpx.post(page, content=token).status_code == 403


def test_it_stays_the_same(up: Platform) -> None:
    before = password(up)
    assert json.dumps(up.rest("GET", "/health").json()) == "true"
    again = prefecture(up, "up", "--pool", "process")
    assert "prefecture is up already" in again.stderr
    assert password(up) == before
