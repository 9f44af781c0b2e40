"""A gateway in front of a running Prefecture, and its users."""

import os
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from deployments.gateway.users.tokens import USUAL, Scope, Tokens
from tests.support.platform import BIN, PATIENCE, answers, ends_with_us, free_port, wait_until


@dataclass(frozen=True)
class Gateway:
    """A running gateway."""

    url: str
    home: Path
    process: subprocess.Popen[bytes]

    @contextmanager
    def user(self, name: str, *scopes: Scope) -> Generator[httpx.Client]:
        """A client with a new token of a user, which has the usual scopes where none are named."""
        with self.client(Tokens(self.home).add(name, scopes or USUAL)) as client:
            yield client

    def client(self, token: str | None) -> httpx.Client:
        """A client with a token."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(
            base_url=f"{self.url}/v1", headers=headers, timeout=PATIENCE, trust_env=False
        )

    @property
    def audit(self) -> str:
        """The audit log."""
        return (self.home / "logs" / "audit.jsonl").read_text()


@contextmanager
def gateway_up(home: Path, api: str, **settings: str) -> Generator[Gateway]:
    """Run `prefecture gateway` with the tokens of a home, in front of the server at `api`."""
    with gateway_at(free_port(), home, api, **settings) as gateway:
        yield gateway


@contextmanager
def gateway_at(port: int, /, home: Path, api: str, **settings: str) -> Generator[Gateway]:
    """Run a gateway as `gateway_up` does, at a port."""
    environment = os.environ | {"PREFECTURE_HOME": str(home), "PREFECT_API_URL": api} | settings
    process = subprocess.Popen(
        ends_with_us(str(BIN / "prefecture"), "gateway", "--port", str(port)), env=environment
    )
    gateway = Gateway(f"http://127.0.0.1:{port}", home, process)
    try:
        wait_until(
            lambda: answers(f"{gateway.url}/health") or process.poll() is not None,
            what="the gateway",
        )
        assert process.poll() is None
        yield gateway
    finally:
        process.terminate()
        assert process.wait(PATIENCE) is not None
