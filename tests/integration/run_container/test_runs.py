"""run-container, from its payload to its result."""

import io
import tarfile
from typing import Any

import pytest

from tests.integration.run_container.jobs import (
    IMAGE,
    built_images,
    demo,
    failed,
    logged,
    python,
    real,
    shell,
    siblings,
    submit_job,
)
from tests.support.platform import Platform, wait_until


def test_the_whole_demo(docker_platform: Platform) -> None:
    job = submit_job(docker_platform, demo())
    folder = docker_platform.completed(job, "containers")
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    logs = {"build.log", "stdout.log", "stderr.log"}
    assert found == {"manifest.json", "output/output.txt"} | logs
    assert (folder / "output" / "output.txt").read_text() == "written\n"
    assert (folder / "stdout.log").read_text() == "started\n"
    assert (folder / "stderr.log").read_text() == "done\n"
    summary = docker_platform.manifest(job, "containers")["summary"]
    assert (summary["exit_code"], summary["out_of_memory"], summary["over_time"]) == (
        0,
        False,
        False,
    )
    assert summary["image_id"].startswith("sha256:")
    assert summary["seconds"] > 5
    assert summary["peak_memory"] > 100_000
    assert summary["cpu_seconds"] > 0
    assert siblings(docker_platform, job) == []
    assert built_images(docker_platform, job) == []
    # A log is sent in batches, the last of them after the state Completed.
    wait_until(
        lambda: {"started", "done"} <= {*logged(docker_platform, job)},
        what="the run's log shows what the container has written",
    )
    (listed,) = docker_platform.artifacts(job, "markdown")
    assert "output/output.txt" in listed["data"]


def test_inputs_environment_and_bytes_that_are_no_text(docker_platform: Platform) -> None:
    folder = docker_platform.inputs / "given"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.txt").write_text("b")
    program = """
import os, pathlib, sys
found = sorted(str(p) for p in pathlib.Path("/input").rglob("*") if p.is_file())
sys.stdout.buffer.write(bytes(range(256)))
print(found, os.environ["SEED"], file=sys.stderr)
try:
    pathlib.Path("/input/new").touch()
except OSError as error:
    print(error.strerror, file=sys.stderr)
"""
    jobs: dict[str, Any] = {}
    for source in ("given", "given/*.txt", "given/a.txt"):
        payload = python(program, inputs=source, environment={"SEED": "7"})
        jobs[source] = submit_job(docker_platform, payload)
    seen = {
        "given": ["/input/a.txt", "/input/sub/b.txt"],
        "given/*.txt": ["/input/a.txt"],
        "given/a.txt": ["/input/a.txt"],
    }
    for source, job in jobs.items():
        result = docker_platform.completed(job, "containers")
        assert (result / "stdout.log").read_bytes() == bytes(range(256))
        first, second = (result / "stderr.log").read_text().splitlines()
        assert first == f"{seen[source]} 7"
        assert second in ("Read-only file system", "Permission denied")


@pytest.mark.thorough
def test_a_context_that_lies_under_the_inputs_root(docker_platform: Platform) -> None:
    text = real({"dockerfile": f"FROM {IMAGE}\nCOPY data.txt /\nCMD cp /data.txt /output\n"})
    dockerfile = text["dockerfile"].encode()
    folder = docker_platform.inputs / "images"
    folder.mkdir()
    with tarfile.open(folder / "one.tar.gz", "w:gz") as tar:
        for name, data in (("Dockerfile", dockerfile), ("data.txt", b"packed")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    (folder / "two").mkdir()
    (folder / "two" / "Dockerfile").write_bytes(dockerfile)
    (folder / "two" / "data.txt").write_text("loose")
    packed, loose = (
        submit_job(docker_platform, {"build": {"context": f"images/{name}"}})
        for name in ("one.tar.gz", "two")
    )
    for job, text in ((packed, "packed"), (loose, "loose")):
        result = docker_platform.completed(job, "containers")
        assert (result / "output" / "data.txt").read_text() == text


@pytest.mark.thorough
def test_what_fails_leaves_its_logs_apart_from_results(docker_platform: Platform) -> None:
    job = submit_job(docker_platform, shell("echo working; echo 'no such file: x' >&2; exit 3"))
    message = failed(docker_platform, job)
    kept = docker_platform.results / "containers" / f"{job}.failed"
    assert message == f"exit code 3: no such file: x; its logs: {kept}"
    assert (kept / "stdout.log").read_text() == "working\n"
    assert (kept / "stderr.log").read_text() == "no such file: x\n"
    assert not (docker_platform.results / "containers" / str(job)).exists()
    (listed,) = docker_platform.artifacts(job, "markdown")
    assert str(kept) in listed["data"]
    refused = docker_platform.command("prefecture", "results", str(job))
    assert "has no result" in refused.stderr
