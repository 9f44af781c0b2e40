"""What a user's container finds and may do, on a real engine, run as run-container runs it."""

import asyncio
import gc
import os
from collections.abc import Generator
from pathlib import Path

import docker
import pytest

from tasks.containers.images.pinned import Image
from tasks.containers.rules import Limits, stopped_by
from tasks.errors import ContainerLost, DiskNearlyFull, InvalidPayload
from tasks.settings import get_settings, settings_in_force
from tests.support.needs import need_docker
from tests.support.platform import wait_until
from tests.tasks.containers.engine import MIB, Bench, built

# docker-py leaves the socket that it attaches to a container by to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
USER = 10001


@pytest.fixture(scope="module")
def engine() -> Generator[tuple[docker.DockerClient, Image]]:
    need_docker()
    with built() as made:
        yield made
    gc.collect()  # here, where it is known what was left open, and not in another test


@pytest.fixture
def bench(engine: tuple[docker.DockerClient, Image], tmp_path: Path) -> Bench:
    return Bench(*engine, tmp_path)


def lines(bench: Bench, script: str) -> list[str]:
    """What lines of shell print that end well."""
    ran = bench.ran(script)
    assert (ran.code, ran.fault) == (0, ""), (ran, (bench.folder / "stderr.log").read_text())
    return bench.printed.splitlines()


def test_what_an_image_expects_of_docker_run_is_there(bench: Bench) -> None:
    name = f"job-{str(bench.owner.job)[:8]}-1"
    wanted = {
        # Programs run from /tmp and from volumes.
        "for d in /tmp /empty /data; do cp /bin/echo $d/run; $d/run $d; done": "/tmp /empty /data",
        # A volume holds what the image has there, and can be changed.
        "cat /data/seed /data/link /data/sub/deep /linked/output/own": "seed seed deep image",
        "echo new >> /data/seed; rm /data/sub/deep; touch /empty/x; cat /data/seed": "seed new",
        # A relative output/ is /output, unless the image has something there.
        "echo x > output/file; cat /output/file; ls /kept/output": "x own",
        "echo y > /output/cache/y; ls output": "cache file",
        # /dev/shm is as large as the memory, not 64 MiB; this memory is, so that is asked for.
        "df --output=size -B1 /dev/shm | tail -1": str(48 * MIB),
        "hostname; getent hosts $(hostname)": f"{name} 127.0.0.1 {name}",
        "echo $PYTHONUNBUFFERED": "1",
        # NVIDIA's runtime gives no GPU that was not asked for.
        "echo $NVIDIA_VISIBLE_DEVICES": "void",
    }
    script = "\n".join(f"({line}) | xargs; echo --" for line in wanted)
    ran = bench.ran(script, memory=48 * MIB)
    assert (ran.code, ran.fault) == (0, "")
    printed = [" ".join(part.split()) for part in bench.printed.split("--\n")]
    assert dict(zip(wanted, printed, strict=False)) == wanted
    bench.collected()
    assert (bench.folder / "published" / "cache" / "y").exists(), "a volume below /output is part"


def test_it_has_the_runtime_of_the_setting(bench: Bench, tmp_path: Path) -> None:
    # Each engine has this one twice, by two names.
    own = get_settings().model_copy(update={"runtime": "io.containerd.runc.v2"})
    with settings_in_force(own):
        assert lines(bench, "echo well") == ["well"]
    other = get_settings().model_copy(update={"runtime": "nowhere"})
    second = tmp_path / "second"
    second.mkdir()
    with settings_in_force(other), pytest.raises(InvalidPayload, match="nowhere"):
        Bench(bench.client, bench.image, second).ran("echo well")


def test_an_engine_without_gpus_refuses_in_one_line(bench: Bench) -> None:
    with pytest.raises(InvalidPayload, match=r"^[^\n]*capabilities: \[\[gpu\]\][^\n]*$"):
        bench.ran("true", gpus=["0"])


def test_user_has_a_name(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    # Owned by the jobs' user, also where root runs the tests.
    monkeypatch.setattr(os, "getuid", lambda: USER)
    monkeypatch.setattr(os, "getgid", lambda: USER)
    for folder in (bench.folder, *bench.folder.parents[:2]):
        folder.chmod(0o755)
    assert lines(bench, "id -u; whoami; id -gn; grep -c root /etc/passwd; touch /tmp/x") == [
        str(USER), "prefecture", "prefecture", "1",
    ]  # fmt: skip


def test_entry_point_replaces_the_images_own(bench: Bench) -> None:
    spec = bench.spec([], entrypoint=["echo", "mine"])
    asyncio.run(bench.run(spec))
    assert bench.printed == "mine\n", "without the image's command"


thorough = pytest.mark.thorough


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("head -c 2097152 /dev/zero > /output/big; exit 0", marks=thorough),
        "trap '' XFSZ; head -c 300000000 /dev/zero > /output/big; exit 0",
        pytest.param("cd /output; head -c 600000 /dev/zero | tee a > b", marks=thorough),
        "mkdir /output/shut; head -c 2097152 /dev/zero > /output/shut/big; chmod 0 /output/shut",
    ],
    ids=["program ignores it", "and the signal", "two files", "hidden"],
)
def test_output_over_its_limit_is_never_a_success(bench: Bench, script: str) -> None:
    ran = bench.ran(script)
    assert ran.fault == (
        "/output is larger than its limit of 1 MiB: raise `output` in the payload, or write less"
    )


def test_file_of_just_the_limit_is_a_success(bench: Bench) -> None:
    ran = bench.ran(f"head -c {MIB} /dev/zero > /output/big; head -c 9000000 /dev/zero > /tmp/x")
    assert (ran.code, ran.fault) == (0, ""), "and a file in /tmp may be larger"


@thorough
def test_volumes_are_bounded(bench: Bench) -> None:
    ran = bench.ran("head -c 2097152 /dev/zero > /data/big")
    assert ran.fault.startswith("the volumes /data, /data/sub, /linked, /output/cache are")


def test_links_inside_output_are_published(bench: Bench) -> None:
    script = (
        "mkdir -p /output/run-2 output/ro; echo x > /output/run-2/model; cd /output; "
        "ln -s run-2 latest; ln -s /output/run-2/model best; ln -s /app/output/best again; "
        "ln -s /etc/passwd passwd; ln -s . self; ln -s nothing dangling; ln -s ../.. up; "
        "echo y > ro/file; chmod 555 ro"
    )
    assert lines(bench, script) == []
    collected = bench.collected()
    published = bench.folder / "published"
    files = {p.relative_to(published).as_posix(): p.read_text() for p in published.rglob("*/*")}
    files |= {p.name: p.read_text() for p in published.iterdir() if p.is_file()}
    x = dict.fromkeys(("run-2/model", "latest/model", "best", "again"), "x\n")
    assert files == x | {"ro/file": "y\n"}
    assert (collected.files, collected.bytes, collected.left_out_in_all) == (5, 10, 4)
    left_out = {entry["path"]: entry["why"] for entry in collected.left_out}
    assert left_out == {
        "passwd": "a symbolic link",
        "up": "a symbolic link",
        "self": "a symbolic link to a folder that it is in",
        "dangling": "a symbolic link to nothing that is published",
    }


@pytest.mark.parametrize(
    ("verb", "script", "said"),
    [
        pytest.param("kill", "sleep 300", "ended by SIGKILL from outside", marks=thorough),
        ("stop", "trap 'exit 0' TERM; sleep 300 & wait", "ended by SIGTERM from outside"),
        pytest.param("remove", "sleep 300", "from outside", marks=thorough),
    ],
)
async def test_container_that_somebody_else_ends_is_lost(
    bench: Bench, verb: str, script: str, said: str
) -> None:
    spec = bench.spec([f"echo up; {script}"])
    task = asyncio.create_task(bench.run(spec))
    await asyncio.to_thread(
        wait_until, lambda: bench.printed == "up\n" if is_there(bench) else False, what="it runs"
    )
    container = bench.client.containers.get(f"prefecture-{bench.owner.run}")
    end = {"kill": container.kill, "stop": container.stop, "remove": lambda: remove(container)}
    await asyncio.to_thread(end[verb])
    with pytest.raises(ContainerLost, match=said):
        await task


def is_there(bench: Bench) -> bool:
    return (bench.folder / "stdout.log").exists()


def remove(container: object) -> None:
    getattr(container, "remove")(force=True)  # noqa: B009  # untyped


@thorough
def test_kill_from_inside_is_the_containers_own(bench: Bench) -> None:
    ran = bench.ran("kill -9 $$")
    assert ran.code == 137
    said = stopped_by(ran.code, ran.recent_lines, Limits("none"))
    assert said.startswith("killed by SIGKILL from inside the container, or by the host's kernel")


def test_disk_with_less_free_than_the_setting_wants_is_nobodys_fault(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECTURE_MIN_FREE_DISK", "1000TB")
    get_settings.cache_clear()
    try:
        with pytest.raises(DiskNearlyFull, match=r"\(PREFECTURE_MIN_FREE_DISK\): free space"):
            bench.ran("sleep 300")
    finally:
        monkeypatch.undo()
        get_settings.cache_clear()
