"""Builds through the broker: within its limits, of what it has checked."""

import io
import tarfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tasks.containers.broker.runs import Run
from tasks.containers.images import builds, pinned
from tasks.errors import InvalidPayload
from tests.integration.run_container.jobs import some_image
from tests.tasks.containers.broker.harness import Bench, body, raw

# docker-py leaves the socket that it attaches to a container by to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


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
            asked = {**body(), "Image": name}
            assert bench.ask(run, "POST", "/containers/create", asked)[0] == 403
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
    with pytest.raises(InvalidPayload, match=r"does not build: .*NONSENSE"):
        built(f"FROM {some_image()}\nNONSENSE\n")
