"""Uploads, downloads and watching where the network breaks, or the gateway is killed."""

import random
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from tests.support.platform import PATIENCE, Platform, free_port, pause, wait_until
from tests.support.web.cutting import cutting
from tests.support.web.gateway import gateway_at, gateway_up
from tests.support.web.laptop import files_of, laptop_of

SHORT = '{"upper_bound": 100}'


def test_uploads_and_downloads_go_on_where_they_broke(
    process_platform: Platform, tmp_path: Path
) -> None:
    picked = random.Random(7)
    text = "\n".join(f"{picked.random():.15f}" for _ in range(250_000))
    with (
        gateway_up(process_platform.home, process_platform.api) as gateway,
        cutting(int(urlsplit(gateway.url).port or 0)) as network,
    ):
        carl = laptop_of(gateway, tmp_path / "carl", "carl")
        carl = carl.with_set(PREFECTURE_URL=f"http://127.0.0.1:{network.port}")
        (carl.folder / "large.csv").write_text(text)
        network.cut_up = 2 * 2**20
        payload = '{"source": "large.csv", "also": ["csv"]}'
        job = carl.done("submit", "average-files", payload, "broken").strip()
        asked = b"".join(network.sent).lower()
        assert network.cut_up is None, "the upload was cut"
        assert b"upload-offset: " in asked, "and went on where it was"
        stored = process_platform.completed(UUID(job), "broken")
        uploads = process_platform.inputs / "users" / "carl" / "uploaded"
        assert [file.read_text() for file in uploads.rglob("large.csv")] == [text]
        network.sent.clear()
        network.cut_down = 2**20
        carl.done("results", job, "--to", "fetched")
        assert network.cut_down is None, "the download was cut"
        assert b"range: bytes=" in b"".join(network.sent).lower(), "and went on where it was"
        assert files_of(carl.folder / "fetched") == files_of(stored)


def test_an_upload_that_was_killed_goes_on_with_the_next_command(
    process_platform: Platform, tmp_path: Path
) -> None:
    with (
        gateway_up(process_platform.home, process_platform.api) as gateway,
        cutting(int(urlsplit(gateway.url).port or 0)) as network,
    ):
        dora = laptop_of(gateway, tmp_path / "dora", "dora")
        way = dora.with_set(PREFECTURE_URL=f"http://127.0.0.1:{network.port}")
        (dora.folder / "folder").mkdir()
        (dora.folder / "folder" / "a.csv").write_text("1\n" * 2**21)
        words = ("submit", "average-files", '{"source": "folder"}', "broken")
        network.hold_up = 2 * 2**20
        with way.started(*words) as first:
            assert network.holding.wait(PATIENCE)
            first.kill()
        network.hold_up = None
        network.released.set()
        network.sent.clear()
        second = way.run(*words)
        assert "folder is uploaded, 1 file" in second.stderr
        assert b"upload-offset: " in b"".join(network.sent).lower()
        process_platform.completed(UUID(second.stdout.strip()), "broken")


@pytest.mark.parametrize("command", ["watch", "logs"])
def test_a_gateway_that_is_killed_and_comes_back_is_waited_for(
    process_platform: Platform, tmp_path: Path, command: str
) -> None:
    port = free_port()
    settings = (port, process_platform.home, process_platform.api)
    with cutting(port) as network:
        with pause(process_platform):
            with gateway_at(*settings) as gateway:
                emil = laptop_of(gateway, tmp_path / "emil", "emil")
                emil = emil.with_set(PREFECTURE_URL=f"http://127.0.0.1:{network.port}")
                job = emil.done("submit", "find-primes", SHORT, "killed").strip()
                follow = ("--follow",) if command == "logs" else ()
                watching = emil.started(command, job, *follow)
                printed = watching.stdout
                assert printed is not None
                stream = b"/logs?follow=true " if command == "logs" else b"/events "
                wait_until(lambda: stream in b"".join(network.sent), what="it listens")
                gateway.process.kill()
                gateway.process.wait()
            if command == "watch":
                wait_until(lambda: "server away" in printed.readline(), what="it is told")
        with gateway_at(*settings):
            rest, _ = watching.communicate()
            assert watching.returncode == 0
            assert (f"job {job} Completed: " if command == "watch" else "INFO") in rest
