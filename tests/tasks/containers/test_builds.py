"""Images that are built or pulled, by a real engine, from files and from a registry of ours."""

import gc
import io
from base64 import b64encode
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from uuid import uuid4

import docker
import pytest

from tasks.containers.images import builds, pinned
from tasks.containers.images.buildkit import platform_args
from tasks.containers.images.context import Context, add_texts
from tasks.containers.images.dockerfile import check_dockerfile, instructions
from tasks.containers.images.pinned import Login
from tasks.contracts import Build
from tasks.errors import InvalidPayload, RegistryUnavailable
from tests.integration.run_container.jobs import some_image
from tests.support.needs import need_docker
from tests.support.web.handlers import always, serving
from tests.support.web.receiver import receiver

pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(scope="module")
def client() -> Generator[docker.DockerClient]:
    need_docker()
    client = docker.from_env(timeout=120)
    yield client
    client.close()
    gc.collect()


def build(client: docker.DockerClient, folder: Path, text: str, **more: Any) -> tuple[str, str]:
    """Build a Dockerfile on our base image. Returns the image's id, and what the engine said."""
    login = more.pop("login", None)
    given = Build.model_validate({"dockerfile": text.replace("@image", some_image()), **more})
    path = folder / "context"
    with Context(path) as context:
        add_texts(context, given)
    tag, said = f"prefecture-test:{uuid4()}", list[str]()
    builds.build(
        client, path, tag, memory=2**28, network="none", seconds=300, say=said.append,
        dockerfile=check_dockerfile(context.dockerfile), args=given.args,
        target=more.get("target", ""), login=login,
    )  # fmt: skip
    image = pinned.find(client, tag)
    assert image is not None
    pinned.remove(client, tag)
    return image.id, "".join(said)


STAGES = """
FROM @image AS first
ARG WORD=default
ARG TARGETARCH
RUN echo "word $WORD on $TARGETARCH"
FROM first AS second
RUN exit 7
"""


def test_arguments_target_and_platform(client: docker.DockerClient, tmp_path: Path) -> None:
    word = str(uuid4())
    _, said = build(client, tmp_path, STAGES, args={"WORD": word}, target="first")
    api: Any = client.api  # its stubs leave most of its methods untyped
    assert f"word {word} on {api.version()['Arch']}" in said


def test_build_that_wants_a_network_names_the_cure(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    program = "import socket; socket.getaddrinfo('example.org', 80)"
    with pytest.raises(InvalidPayload, match='"network": "bridge" in the payload gives it the in'):
        build(client, tmp_path, f'FROM @image\nRUN python3 -c "{program}" # {uuid4()}')


# Starts processes until it cannot.
BOMB = """
import os, time
try:
    for number in range(30_000):
        if os.fork() == 0:
            time.sleep(600)
            os._exit(0)
except OSError as error:
    raise SystemExit(f'fork: {error.strerror}')
"""


def test_fork_bomb_of_a_step_ends_the_build(client: docker.DockerClient, tmp_path: Path) -> None:
    program = b64encode(BOMB.encode()).decode()
    run = f"python3 -c \"import base64; exec(base64.b64decode('{program}'))\""
    # What a step prints is not taken for what the engine prints.
    forged = "echo 'Step 9/9 : RUN true'; echo ' ---> Running in 0123456789ab'"
    with pytest.raises(InvalidPayload, match="1,024 processes and threads: start fewer") as refused:
        build(client, tmp_path, f"FROM @image\nRUN {forged}; {run} # {uuid4()}")
    assert "\n" not in str(refused.value)


class Private(BaseHTTPRequestHandler):
    """Asks for a login, and then has no image."""

    seen: list[str]

    def do_GET(self) -> None:
        known = self.headers.get("Authorization") == f"Basic {b64encode(b'anna:secret').decode()}"
        if known:
            self.seen.append(self.path)
        self.send_response(401 if not known else 200 if self.path == "/v2/" else 404)
        self.send_header("WWW-Authenticate", 'Basic realm="team"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@pytest.mark.parametrize("status", [429, 503])
def test_registry_that_fails_for_now_is_asked_again(
    client: docker.DockerClient, tmp_path: Path, status: int
) -> None:
    with serving(always(status)) as address:
        name = f"{address}/team/image:1"
        with pytest.raises(RegistryUnavailable, match="cannot be pulled"):
            pinned.pull(client, name, None)
        with pytest.raises(RegistryUnavailable, match="cannot be pulled"):
            build(client, tmp_path, f"FROM {name}")
        with pytest.raises(RegistryUnavailable, match="refuses the login of anna"):
            login = Login("anna", "secret", address)
            build(client, tmp_path, f"FROM {name}", login=login)


def test_base_image_of_a_build_is_pulled_with_its_login(
    client: docker.DockerClient, tmp_path: Path
) -> None:
    seen: list[str] = []
    handler = type("PrivateRegistry", (Private,), {"seen": seen})
    with serving(handler) as address, pytest.raises(InvalidPayload):
        login = Login("anna", "secret", address)
        build(client, tmp_path, f"FROM {address}/team/image:1", login=login)
    assert "/v2/team/image/manifests/1" in seen


@pytest.fixture
def triggered(client: docker.DockerClient) -> Generator[Callable[[str], str]]:
    """Makes an image with an ONBUILD instruction. Returns its name."""
    made: list[str] = []

    def make(instruction: str) -> str:
        made.append(f"prefecture-test:{uuid4()}")
        text = f"FROM {some_image()}\nONBUILD {instruction}\n"
        client.images.build(fileobj=io.BytesIO(text.encode()), tag=made[-1], rm=True)
        return made[-1]

    yield make
    for name in made:
        client.images.remove(name, force=True)


@pytest.mark.parametrize(
    "text",
    [
        "FROM @triggered",
        "FROM @image AS first\nFROM @triggered",
        "FROM @triggered AS first\nFROM @image\nCOPY --from=first / /first",
        "ARG OTHER=@triggered\nFROM ${OTHER}",
        "ARG GIVEN\nFROM $GIVEN",
        "# a comment\n# escape=`\nFROM @image\nRUN true `\nFROM @triggered",
    ],
)
def test_engine_fetches_no_address_for_a_base_image(
    client: docker.DockerClient, tmp_path: Path, triggered: Callable[[str], str], text: str
) -> None:
    with receiver() as server:
        name = triggered(f"ADD {server.url}/secrets /fetched")
        with pytest.raises(InvalidPayload, match="executes its ONBUILD ADD http"):
            build(client, tmp_path, text.replace("@triggered", name), args={"GIVEN": name})
    assert server.requests == []


def test_base_image_may_have_other_triggers(
    client: docker.DockerClient, tmp_path: Path, triggered: Callable[[str], str]
) -> None:
    word = str(uuid4())
    _, said = build(client, tmp_path, f"FROM {triggered(f'RUN echo {word}')}")
    assert word in said


@pytest.mark.parametrize("status", [401, 403, 404])
def test_registry_that_refuses_is_final(client: docker.DockerClient, status: int) -> None:
    with serving(always(status)) as address, pytest.raises(InvalidPayload, match="check the name"):
        pinned.pull(client, f"{address}/team/image:1", None)


def test_registry_at_which_nothing_listens_is_final(client: docker.DockerClient) -> None:
    with pytest.raises(InvalidPayload, match="that this host reaches the registry"):
        pinned.pull(client, "127.0.0.1:9/nothing:1", None)


@pytest.mark.parametrize(
    ("said", "transient"),
    [
        ("toomanyrequests: You have reached your pull rate limit", True),
        ("Get https://r/v2/: net/http: TLS handshake timeout", True),
        ("Get https://r/v2/: dial tcp 1.2.3.4:443: i/o timeout", True),
        ("Get https://r/v2/: context deadline exceeded (Client.Timeout exceeded)", True),
        ("read tcp 1.2.3.4:5->6.7.8.9:443: read: connection reset by peer", True),
        ("error pulling image configuration: unexpected EOF", True),
        ("Get https://r/v2/: dial tcp: lookup r: Temporary failure in name resolution", True),
        ("received unexpected HTTP status: 503 Service Unavailable", True),
        ("dial tcp 127.0.0.1:9: connect: connection refused", False),
        ("dial tcp: lookup nowhere.example: no such host", False),
        ("manifest for x:1 not found: manifest unknown", False),
        ("pull access denied for x, repository does not exist", False),
        ("failed to register layer: write /usr/lib/x: no space left on device", True),
        ("filesystem layer verification failed for digest sha256:0", True),
        ("dial tcp 192.0.2.1:443: connect: no route to host", True),
        ("x509: certificate signed by unknown authority", False),
        ("no matching manifest for linux/arm64 in the manifest list entries", False),
        ("x509: certificate signed by unknown authority", False),
    ],
)
def test_what_the_engine_says_of_a_registry(said: str, transient: bool) -> None:
    assert pinned.is_transient(said) is transient


def test_platform_arguments_are_those_that_are_declared() -> None:
    text = "ARG TARGETPLATFORM\nFROM x\nARG BUILDOS TARGETARCH=arm\nARG OWN\n"
    assert platform_args(instructions(text), "linux", "amd64") == {
        "TARGETPLATFORM": "linux/amd64",
        "BUILDOS": "linux",
        "TARGETARCH": "amd64",
    }
