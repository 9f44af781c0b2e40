"""Debian's own registry of images, on this machine's loopback, with a user and a password."""

import io
import tarfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import httpx

from tests.support.needs import need_registry
from tests.support.platform import free_port, http
from tests.support.servers import running

USER, PASSWORD = "anna", "a-password-for-tests"
# Of that password, with bcrypt: the one kind that the registry reads.
_HASH = "$2b$04$8HF8spZ6eYdwCRCrWs0S.uKUSVHtr7HeMVuY/4vmbCW.FOpLxlosy"
_CONFIG = """
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {folder}/images}}}}
http: {{addr: "127.0.0.1:{port}"}}
auth: {{htpasswd: {{realm: tests, path: {folder}/users}}}}
"""


@contextmanager
def registry(folder: Path) -> Generator[str]:
    """The address of a registry that keeps its images in `folder`."""
    program = need_registry()
    port = free_port()
    (folder / "users").write_text(f"{USER}:{_HASH}\n")
    (folder / "config.yml").write_text(_CONFIG.format(folder=folder, port=port))
    command = (program, "serve", str(folder / "config.yml"))

    def answers() -> bool:
        try:
            return http().get(f"http://127.0.0.1:{port}/v2/").status_code == 401
        except httpx.ConnectError:
            return False

    with running("the registry", command, folder / "log", answers):
        yield f"127.0.0.1:{port}"


def push_something(address: str) -> str:
    """Put a small image, with nothing in it that runs, into a registry. Returns its name there."""
    name = f"{address}/team/nothing"
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        member = tarfile.TarInfo("file")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"text"))
    client = docker.from_env()
    try:
        api: Any = client.api  # its stubs leave most of its methods untyped
        api.import_image_from_data(data.getvalue(), repository=name, tag="1")
        login = {"username": USER, "password": PASSWORD}
        for event in api.push(name, tag="1", auth_config=login, stream=True, decode=True):
            assert "error" not in event, event
        client.images.remove(f"{name}:1")
    finally:
        client.close()
    return f"{name}:1"
