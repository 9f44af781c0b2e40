"""A server that other machines reach: here by another address of this one, with TLS."""

import os
import ssl
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest

from tests.support.platform import Platform, platform_up, run_command
from tests.support.session.environment import PASSWORD
from tests.support.web.certificates import server_context

ADDRESS = "127.0.0.2"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Platform, Path]]:
    """A Prefecture that listens there too, and the certificate that its clients trust."""
    folder = tmp_path_factory.mktemp("outside")
    _, certificate = server_context(folder)
    settings = {
        "PREFECTURE_BIND": ADDRESS,
        "PREFECTURE_TLS_CERTIFICATE": str(certificate),
        "PREFECTURE_TLS_KEY": str(certificate.with_suffix(".key")),
    }
    with platform_up(folder / "home", "process", settings=settings) as platform:
        yield platform, certificate


def test_it_is_served_with_tls_and_for_those_who_have_the_password(
    up: tuple[Platform, Path], tmp_path: Path
) -> None:
    platform, certificate = up
    api = f"https://{ADDRESS}:{platform.port}/api"
    assert f"outside  {api}" in platform.output
    context = ssl.create_default_context(cafile=certificate)
    with httpx.Client(verify=context, base_url=api) as client:
        assert client.get("/ready").is_success
        assert client.get("/admin/version").status_code == 401
        user, _, password = PASSWORD.partition(":")
        assert client.get("/admin/version", auth=(user, password)).is_success
        assert client.get("/ready", headers={"Host": "rebound.example.org"}).status_code == 421
        with pytest.raises(httpx.TransportError):
            httpx.get(api.replace("https", "http") + "/ready")
    # As from another host.
    environment = os.environ | {
        "PREFECTURE_HOME": str(tmp_path),
        "PREFECT_API_URL": api,
        "PREFECT_API_SSL_CERT_FILE": str(certificate),
    }
    words = ("submit", "find-primes", '{"upper_bound": 10}', "outside", "--watch")
    done = run_command("prefecture", *words, env=environment)
    assert done.returncode == 0, done.stderr
    assert platform.stop() == 0
    assert "Traceback" not in (platform.home / "logs" / "server.log").read_text()
