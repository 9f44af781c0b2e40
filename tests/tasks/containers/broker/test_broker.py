"""The broker in front of a real engine: what a job needs goes on, and what attacks ask does not."""

import asyncio
import gc
import io
import json
import logging
import os
import tarfile
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tasks.containers import user_container
from tasks.containers.broker.runs import Run
from tasks.containers.images import builds, pinned
from tasks.containers.images.pinned import Image
from tasks.containers.secret_files import held
from tasks.errors import InvalidPayload
from tests.integration.run_container.jobs import some_image
from tests.support.needs import need_docker
from tests.tasks.containers.broker.harness import (
    MIB,
    Bench,
    authorization,
    brokered,
    owner_of,
)
from tests.tasks.containers.engine import Bench as Containers
from tests.tasks.containers.engine import built

# docker-py leaves the socket that it attaches to a container by to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
SCRIPT = (
    "cat /input/note /notes/second /run/secrets/key /data/seed; "
    "echo said >&2; echo written > /output/file; "
    "id -u; hostname; touch /notes/x 2>/dev/null || echo read-only"
)


@pytest.fixture(scope="module")
def bench() -> Generator[Bench]:
    need_docker()
    # Not under pytest's folder: an address of a socket has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="broker-") as folder, brokered(Path(folder)) as made:
        yield made
    gc.collect()


@pytest.fixture(scope="module")
def image() -> Generator[Image]:
    need_docker()
    with built() as (_, image):
        yield image


@pytest.fixture
def run(bench: Bench) -> Run:
    return bench.run()


def body(run: Run, **host: Any) -> dict[str, Any]:
    """What a flow asks for; `host`: what differs in HostConfig."""
    usual: dict[str, Any] = {
        "NetworkMode": "none",
        "Memory": 64 * MIB,
        "MemorySwap": 64 * MIB,
        "NanoCpus": 10**9,
        "PidsLimit": 256,
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges"],
        "LogConfig": {"Type": "none", "Config": {}},
        "Init": True,
    }
    return {"Image": some_image(), "Cmd": ["true"], "HostConfig": {**usual, **host}}


def create(bench: Bench, run: Run, asked: Mapping[str, Any]) -> tuple[int, str]:
    return bench.ask(run, "POST", f"/containers/create?name=prefecture-{run.id}", asked)


def container(bench: Bench, run: Run, command: str = "sleep 600") -> str:
    """A container of a run, created."""
    with bench.client(run) as client:
        api: Any = client.api
        host = body(run)["HostConfig"]
        config = {**body(run), "Cmd": ["sh", "-c", command], "HostConfig": host}
        return str(api.create_container_from_config(config, f"prefecture-{run.id}")["Id"])


def removed(bench: Bench, id: str) -> None:
    api: Any = bench.direct.api
    api.remove_container(id, force=True, v=True)


def test_a_container_of_a_run(bench: Bench, run: Run, image: Image) -> None:
    stage = bench.stage(run)
    (bench.inputs / "note").write_text("a note\n")
    (bench.inputs / "notes").mkdir()
    (bench.inputs / "notes" / "second").write_text("another\n")
    with bench.client(run) as client:
        here = Containers(client, image, stage, owner_of(run))
        inputs = {"/input/note": bench.inputs / "note", "/notes": bench.inputs / "notes"}
        spec = here.spec([SCRIPT], inputs=inputs)
        with held(client, here.owner, {"key": b"a key\n"}, image.id) as volume:
            outcome = asyncio.run(here.run(replace(spec, secrets=volume)))
        assert outcome.code == 0, here.printed
        assert user_container.remove_all_of(client, run.job) == 0
    assert here.printed.splitlines() == [
        *(
            "a note",
            "another",
            "a key",
            "seed",
            str(os.getuid()),
            f"job-{str(run.job)[:8]}-1",
            "read-only",
        ),
    ]
    assert (stage / "stderr.log").read_text() == "said\n"
    assert here.collected().files == 1
    left: Any = bench.direct.api.volumes(filters={"dangling": True})  # pyright: ignore[reportUnknownMemberType]
    ours = [one for one in left["Volumes"] or () if "device" in (one["Options"] or {})]
    assert not [one for one in ours if one["Options"]["device"].startswith("/proc/")]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"Privileged": True}, "HostConfig.Privileged"),
        ({"Binds": ["/:/host"]}, "HostConfig.Binds"),
        ({"PidMode": "host"}, "HostConfig.PidMode"),
        ({"Devices": [{"PathOnHost": "/dev/sda"}]}, "HostConfig.Devices"),
        ({"VolumesFrom": ["other"]}, "HostConfig.VolumesFrom"),
        ({"UsernsMode": "host"}, "HostConfig.UsernsMode"),
        ({"CapAdd": ["SYS_ADMIN"]}, "HostConfig.CapAdd"),
        ({"CapAdd": ["NET_ADMIN"]}, "HostConfig.CapAdd"),
        ({"SecurityOpt": ["seccomp=unconfined"]}, "HostConfig.SecurityOpt"),
        ({"ReadonlyRootfs": False}, "HostConfig.ReadonlyRootfs"),
        ({"NetworkMode": "host"}, "network host"),
        ({"NetworkMode": "bridge"}, "network bridge"),
        ({"NetworkMode": f"container:{'a' * 64}"}, "network container"),
        ({"Memory": 2**40, "MemorySwap": 2**40}, "HostConfig.Memory"),
        ({"MemorySwap": -1}, "HostConfig.MemorySwap"),
        ({"PidsLimit": 0}, "HostConfig.PidsLimit"),
        ({"NanoCpus": 10**12}, "HostConfig.NanoCpus"),
        (
            {"DeviceRequests": [{"DeviceIDs": ["GPU-2"], "Capabilities": [["gpu"]]}]},
            "not this run's",
        ),
    ],
    ids=str,
)
def test_a_container_has_no_more_rights(
    bench: Bench, run: Run, asked: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        status, message = create(bench, run, body(run, **asked))
    assert status == 403
    assert said in message
    assert "\n" not in message
    (line,) = [one.getMessage() for one in caplog.records]
    assert line.startswith(f"run {run.id} may not: POST /containers/create: ")


@pytest.mark.parametrize(
    "source",
    [
        "/",
        "/var/run/docker.sock",
        "{root}",
        "{root}/broker",
        "{root}/results",
        "{root}/results/.staging",
        "{root}/results/album/1",
        "{other}/output",
        "{stage}/../{name}/output",
        "{stage}/link",
        "{stage}/link/inside",
        "{root}/inputs/out",
    ],
)
def test_a_container_has_no_other_folder(bench: Bench, run: Run, source: str) -> None:
    stage, other = bench.stage(run), bench.stage(bench.run())
    for place in (stage, other, bench.folder / "results" / "album" / "1"):
        (place / "output").mkdir(parents=True, exist_ok=True)
    (stage / "link").symlink_to("/etc")
    (bench.inputs / "out").unlink(missing_ok=True)
    (bench.inputs / "out").symlink_to("/etc")
    place = source.format(root=bench.folder, other=other, stage=stage, name=other.name)
    for kind in ("bind", "volume"):
        mount = {"Type": kind, "Source": place, "Target": "/output", "ReadOnly": True}
        status, message = create(bench, run, body(run, Mounts=[mount]))
        assert (status, "\n" in message) == (403, False), message
    status, _ = create(
        bench,
        run,
        body(run, Mounts=[{"Type": "bind", "Source": str(bench.inputs), "Target": "/output"}]),
    )
    assert status == 403, "inputs are read-only"


def test_a_folder_that_is_replaced_afterwards_stays_the_one_that_was_asked(
    bench: Bench, run: Run
) -> None:
    stage = bench.stage(run)
    (stage / "output").mkdir()
    (stage / "output" / "mine").touch()
    mount = {"Type": "bind", "Source": str(stage / "output"), "Target": "/output"}
    config = {**body(run, Mounts=[mount]), "Cmd": ["ls", "/output"]}
    with bench.client(run) as client:
        api: Any = client.api
        id = api.create_container_from_config(config, f"prefecture-{run.id}")["Id"]
        (stage / "output").rename(stage / "away")
        (stage / "output").symlink_to("/etc")
        printed = user_container.attach(client, id)
        user_container.start(client, id)
        assert b"".join(out or b"" for out, _ in printed) == b"mine\n"
        user_container.remove(client, id)


def test_containers_of_others(bench: Bench, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    other = bench.run()
    theirs = container(bench, other)
    try:
        for method, path in [
            ("GET", "json"), ("POST", "start"), ("POST", "stop"), ("POST", "attach"),
            ("POST", "wait"), ("GET", "stats"), ("GET", "archive?path=/etc/passwd"),
            ("PUT", "archive?path=/run/secrets"), ("GET", "logs?stdout=1"), ("POST", "exec"),
            ("POST", "kill"), ("POST", "update"), ("POST", "rename?name=x"), ("GET", "export"),
        ]:  # fmt: skip
            status, message = bench.ask(run, method, f"/v1.41/containers/{theirs}/{path}")
            assert status == 403, (path, message)
        flow = bench.made[-1]
        for asked in [
            ("DELETE", f"/containers/{theirs}"),
            ("GET", f"/containers/{flow}/json"),
            ("POST", f"/containers/{flow}/stop"),
            ("DELETE", f"/volumes/prefecture-secrets-{other.id}"),
            ("POST", f"/exec/{theirs}/start"),
            ("GET", "/containers/json"),
            ("GET", "/info"),
            ("GET", "/images/json"),
            ("POST", "/commit"),
            ("POST", "/swarm/init"),
            ("GET", f"/containers/prefecture-{other.id}/json"),
            ("GET", "/events"),
        ]:
            status, message = bench.ask(run, *asked)
            assert status == 403, (asked, message)
        status, _ = create(bench, replace(run, id=other.id), body(run))
        assert status in (403, 409), "a name that another run has"
    finally:
        removed(bench, theirs)
    assert all("may not: " in one.getMessage() for one in caplog.records)


def test_a_token_that_is_none_or_of_a_run_that_is_over(bench: Bench, run: Run) -> None:
    id = container(bench, run)
    stranger = replace(run, id=uuid4())
    assert bench.ask(stranger, "GET", f"/containers/{id}/json")[0] == 403
    bench.known.runs[str(run.id)] = replace(run, is_over=True)
    for method, path in [("POST", f"/containers/{id}/start"), ("POST", f"/containers/{id}/attach")]:
        assert bench.ask(run, method, path) == (403, "the broker: its run is over")
    assert create(bench, run, body(run)) == (403, "the broker: its run is over")
    # What it has made it can still remove.
    assert bench.ask(run, "DELETE", f"/containers/{id}?v=True&force=True&link=False")[0] == 204


def test_a_container_of_a_broker_that_has_ended_is_not_started(bench: Bench, run: Run) -> None:
    api: Any = bench.direct.api
    labels = {"prefecture": "sibling", "prefecture.job_id": str(run.job)}
    id = api.create_container(some_image(), ["true"], labels=labels)["Id"]
    try:
        status, message = bench.ask(run, "POST", f"/containers/{id}/start")
        assert (status, "has ended" in message) == (503, True)
    finally:
        removed(bench, id)


def raw(run: Run, *lines: str, body: bytes = b"") -> bytes:
    usual = ["Host: docker", f"Prefecture-Run: {run.id}", f"Authorization: {authorization(run.id)}"]
    return "\r\n".join([lines[0], *usual, *lines[1:], "", ""]).encode() + body


def test_requests_that_are_not_plain(bench: Bench, run: Run) -> None:
    smuggled = b"0\r\n\r\nGET /info HTTP/1.1\r\nHost: docker\r\n\r\n"
    create = "POST /containers/create HTTP/1.1"
    twice = b'{"Image": "a", "HostConfig": {}, "hostconfig": {"Privileged": true}}'
    for sent, said in [
        (raw(run, create, "Transfer-Encoding: chunked", body=smuggled), "Transfer-Encoding"),
        (raw(run, create, "Content-Length: 4", "Transfer-Encoding: chunked"), "Transfer-Encoding"),
        (raw(run, create, "Content-Length: 4", "Content-Length: 40"), "twice"),
        (raw(run, create, "Content-Length: +4"), "no number"),
        (raw(run, create, "X: y", " folded: z"), "not well-formed"),
        (raw(run, create, "X: y\nTransfer-Encoding: chunked"), "not well-formed"),
        (raw(run, create, "Transfer-Encoding : chunked"), "not well-formed"),
        (raw(run, "GET /version HTTP/1.0"), "first line"),
        (raw(run, "GET http://docker/version HTTP/1.1"), "first line"),
        (raw(run, "GET /containers/../info HTTP/1.1"), "not well-formed"),
        (raw(run, "GET /images/..%2f..%2finfo/json HTTP/1.1"), "not well-formed"),
        (raw(run, "POST /containers/create?name=a&name=b HTTP/1.1"), "twice"),
        (raw(run, create, f"Content-Length: {len(twice)}", body=twice), "a name twice"),
        (raw(run, create, "Content-Length: 2", body=b"[]"), "not allowed"),
        (raw(run, create, "Content-Length: 1", body=b"{"), "not JSON"),
        (raw(run, create, f"Content-Length: {2**40}"), "1,048,576 bytes"),
    ]:
        status, message = bench.say(sent)
        assert 400 <= status < 500, (sent, status)
        assert said in message, (sent, message)
    # What stands behind a request is not read.
    both = raw(run, "GET /version HTTP/1.1", "Content-Length: 0", body=raw(run, "GET /x HTTP/1.1"))
    assert bench.say(both)[0] == 200


def tarball(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return whole.getvalue()


def file(name: str, text: str) -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), text.encode()


def link(name: str, to: str) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, to
    return info, b""


def build(bench: Bench, run: Run, context: bytes, query: str = "") -> tuple[int, str]:
    name = f"t=prefecture-build:{run.job}"
    line = f"POST /build?{query or name} HTTP/1.1"
    return bench.say(raw(run, line, f"Content-Length: {len(context)}", body=context))


def test_builds_that_are_refused(bench: Bench, run: Run) -> None:
    other = bench.run()
    theirs = f"prefecture-build:{other.job}"
    api: Any = bench.direct.api
    made = io.BytesIO(tarball(file("Dockerfile", f"FROM {some_image()}\nLABEL x={uuid4()}")))
    for event in api.build(fileobj=made, custom_context=True, tag=theirs, decode=True):
        assert "error" not in event, event
    base = some_image()
    metadata = f"FROM {base}\nADD http://169.254.169.254/latest /x\n"
    id = str(api.inspect_image(theirs)["Id"])
    try:
        for name in (theirs, id):
            status, message = bench.ask(run, "GET", f"/images/{name}/json")
            assert (status, "another job" in message) == (403, True)
            asked = {**body(run), "Image": name}
            assert create(bench, run, asked)[0] == 403
        assert bench.ask(run, "DELETE", f"/images/{theirs}")[0] == 403
        assert bench.ask(run, "DELETE", f"/images/{base}")[0] == 403
        for context, said in [
            (tarball(file("Dockerfile", f"FROM {theirs}")), "another job"),
            (tarball(file("Dockerfile", f"FROM {id}")), "another job"),
            (tarball(file("Dockerfile", f"FROM {base}\nCOPY --from={theirs} / /x")), "another job"),
            (tarball(file("Dockerfile", metadata)), "ADD cannot fetch"),
            (tarball(file("Dockerfile", "FROM not-here:1")), "not on this host"),
            (tarball(file("a", "b")), "no Dockerfile"),
            (tarball(file("Dockerfile", "FROM x"), file("./Dockerfile", "FROM y")), "one file"),
            (tarball(link("Dockerfile", "/etc/passwd")), "one file"),
            (tarball(file("../up", "x"), file("Dockerfile", "FROM x")), "cannot have"),
            (b"no tarball", "no tarball"),
        ]:
            status, message = build(bench, run, context)
            assert status in (400, 403), message
            assert said in message, message
        good = tarball(file("Dockerfile", f"FROM {base}"))
        for query in [
            f"t={theirs}",
            f"t=prefecture-build:{run.job}&networkmode=host",
            f"t=prefecture-build:{run.job}&remote=http://127.0.0.1/x",
            f"t=prefecture-build:{run.job}&extrahosts=a:b",
            f"t=prefecture-build:{run.job}&version=2",
        ]:
            assert build(bench, run, good, query)[0] == 403
    finally:
        api.remove_image(theirs, force=True)


def test_a_build_has_limits_that_its_run_did_not_ask_for(bench: Bench, run: Run) -> None:
    began = time.time() - 5
    dockerfile = (
        f"FROM {some_image()}\nCOPY d/Dockerfile /kept\nRUN sleep 2 # {uuid4()}\nCMD true\n"
    )
    # Unpacked behind a link, a file cannot take the place of the one that was checked.
    context = tarball(
        file("Dockerfile", dockerfile), link("d", "."), file("d/Dockerfile", "FROM scratch\n")
    )
    assert build(bench, run, context)[0] == 200
    api: Any = bench.direct.api
    name = f"prefecture-build:{run.job}"
    try:
        assert api.inspect_image(name)["Config"]["Cmd"][-1] == "true"
        filters = {"type": "container", "event": ["update"]}
        with closing(
            api.events(since=began, until=time.time(), filters=filters, decode=True)
        ) as events:
            assert list(events)
    finally:
        assert bench.ask(run, "DELETE", f"/images/{name}")[0] == 200


def test_an_image_is_built_through_it(bench: Bench, run: Run, tmp_path: Path) -> None:
    text = f"FROM {some_image()}\nARG WORD\nRUN echo said $WORD # {uuid4()}\n"
    path, said = tmp_path / "context", list[str]()
    path.write_bytes(tarball(file("Dockerfile", text)))
    name = f"prefecture-build:{run.job}"

    def built(text: str) -> None:
        path.write_bytes(tarball(file("Dockerfile", text)))
        with bench.client(run) as client:
            builds.build(
                client, path, name, memory=2**31, network="none", seconds=300, say=said.append,
                dockerfile=text, args={"WORD": "hello"},
            )  # fmt: skip

    built(text)
    assert "said hello" in "".join(said)
    with bench.client(run) as client:
        image = pinned.find(client, name)
        assert image is not None
        pinned.remove(client, name)
        assert pinned.find(client, name) is None
    with pytest.raises(InvalidPayload, match=r"RUN exit 7 .*returned a non-zero code: 7"):
        built(f"FROM {some_image()}\nRUN exit 7 # {uuid4()}\n")


def test_a_body_may_not_have_what_is_not_known(bench: Bench, run: Run) -> None:
    assert create(bench, run, {**body(run), "Shell": ["x"]})[0] == 403
    assert json.loads(json.dumps(body(run))) == body(run)
