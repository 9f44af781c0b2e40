"""The broker in front of a real engine: what a job needs goes on, and what attacks ask does not."""

import asyncio
import logging
import os
import subprocess
from collections.abc import Generator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tasks.containers import user_container
from tasks.containers.broker.flows import servers_of_host
from tasks.containers.broker.folders import remove_left
from tasks.containers.broker.runs import Run
from tasks.containers.images.pinned import Image
from tasks.containers.secret_files import held
from tests.integration.run_container.jobs import some_image
from tests.support.needs import need_docker
from tests.tasks.containers.broker.harness import Bench, body, owner_of
from tests.tasks.containers.engine import Bench as Containers
from tests.tasks.containers.engine import built

# docker-py leaves the socket that it attaches to a container by to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
SCRIPT = (
    "cat /input/note /notes/second /run/secrets/key /data/seed; "
    "echo said >&2; echo written > /output/file; "
    "id -u; hostname; touch /notes/x 2>/dev/null || echo read-only"
)
MORE_RIGHTS: list[tuple[dict[str, Any], str]] = [
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
]


@pytest.fixture(scope="module")
def image() -> Generator[Image]:
    need_docker()
    with built() as (_, image):
        yield image


def create(bench: Bench, run: Run, asked: Mapping[str, Any]) -> tuple[int, str]:
    return bench.ask(run, "POST", f"/containers/create?name=prefecture-{run.id}", asked)


def container(bench: Bench, run: Run, command: str = "sleep 600") -> str:
    """A container of a run, created."""
    with bench.client(run) as client:
        api: Any = client.api
        host = body()["HostConfig"]
        config = {**body(), "Cmd": ["sh", "-c", command], "HostConfig": host}
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
    ("asked", "said"), MORE_RIGHTS, ids=[next(iter(one)) for one, _ in MORE_RIGHTS]
)
def test_a_container_has_no_more_rights(
    bench: Bench, run: Run, asked: dict[str, Any], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        status, message = create(bench, run, body(**asked))
    assert status == 403
    assert said in message
    assert "\n" not in message
    (line,) = [one.getMessage() for one in caplog.records]
    assert line.startswith(f"run {run.id} may not: POST /containers/create: ")


def test_no_variable_gives_a_container_a_gpu(bench: Bench, run: Run) -> None:
    config = {**body(), "Env": ["A=b=c", "NVIDIA_VISIBLE_DEVICES=all"]}
    with bench.client(run) as client:
        api: Any = client.api
        id = api.create_container_from_config(config, f"prefecture-{run.id}")["Id"]
        variables: list[str] = api.inspect_container(id)["Config"]["Env"]
        assert {"A=b=c", "NVIDIA_VISIBLE_DEVICES=void"} <= set(variables)
        assert "NVIDIA_VISIBLE_DEVICES=all" not in variables
        api.remove_container(id, v=True, force=True)


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
        status, message = create(bench, run, body(Mounts=[mount]))
        assert (status, "\n" in message) == (403, False), message
    status, _ = create(
        bench,
        run,
        body(Mounts=[{"Type": "bind", "Source": str(bench.inputs), "Target": "/output"}]),
    )
    assert status == 403, "inputs are read-only"


def test_a_folder_that_is_replaced_afterwards_stays_the_one_that_was_asked(
    bench: Bench, run: Run
) -> None:
    stage = bench.stage(run)
    (stage / "output").mkdir()
    (stage / "output" / "mine").touch()
    mount = {"Type": "bind", "Source": str(stage / "output"), "Target": "/output"}
    config = {**body(Mounts=[mount]), "Cmd": ["ls", "/output"]}
    with bench.client(run) as client:
        api: Any = client.api
        id = api.create_container_from_config(config, f"prefecture-{run.id}")["Id"]
        (stage / "output").rename(stage / "away")
        (stage / "output").symlink_to("/etc")
        printed = user_container.attach(client, id)
        user_container.start(client, id)
        assert b"".join(out or b"" for out, _ in printed) == b"mine\n"
        user_container.remove(client, id)


def test_a_job_has_no_other_stage_by_another_name(bench: Bench, run: Run) -> None:
    stage, other = bench.stage(run), bench.stage(bench.run())
    for place, name in ((stage, "mine"), (other, "of-another")):
        (place / "output" / name).mkdir(parents=True)
    with bench.client(run) as client:
        assert user_container.remove_all_of(client, run.job) == 0  # a run's first request
        stage.rename(stage.with_name(f"{stage.name}-away"))
        other.rename(stage)
        later = stage.with_name(f"{run.job}.{run.id}.later")
        (later / "output").mkdir(parents=True)
        mount = {"Type": "bind", "Source": str(later / "output"), "Target": "/output"}
        status, message = create(bench, run, body(Mounts=[mount]))
        assert (status, "no stage of this run" in message) == (403, True)
        mount["Source"] = str(stage / "output")
        config = {**body(Mounts=[mount]), "Cmd": ["ls", "/output"]}
        api: Any = client.api
        id = api.create_container_from_config(config, f"prefecture-{run.id}")["Id"]
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
        status, _ = create(bench, replace(run, id=other.id), body())
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
    assert create(bench, run, body()) == (403, "the broker: its run is over")
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


def test_name_servers_of_a_host_with_systemd_resolved(tmp_path: Path) -> None:
    own, behind = tmp_path / "resolv.conf", tmp_path / "behind.conf"
    own.write_text("nameserver 127.0.0.53\noptions edns0\n")
    assert servers_of_host((own, behind)) == []
    behind.write_text("nameserver 10.0.0.2\nnameserver fd00::1\n")
    assert servers_of_host((own, behind)) == ["10.0.0.2"]
    own.write_text("nameserver 192.168.1.1\n")
    assert servers_of_host((own, behind)) == ["192.168.1.1"]


def test_copies_of_a_broker_that_was_killed_are_removed(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    left, used = tmp_path / f"copy.{ended.pid}.a", tmp_path / f"copy.{os.getpid()}.b"
    for folder in (left, used):
        folder.mkdir()
        (folder / "file").touch()
    remove_left(tmp_path)
    assert (left.exists(), (used / "file").exists()) == (False, True)
