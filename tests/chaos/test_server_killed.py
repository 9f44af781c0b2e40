"""The server is killed while jobs are submitted and while they run; it comes back by itself."""

import signal
import subprocess
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from time import monotonic

import pytest

from tests.chaos.harness.choice import long
from tests.chaos.harness.drill import Drill
from tests.chaos.harness.platforms import trial_platform
from tests.chaos.harness.verdict import Check
from tests.support.platform import BIN, Platform, ends_with_us, wait_until
from tests.support.processes import server, speaks_to

DOWN = 90.0  # seconds


@pytest.fixture(scope="module", params=["docker", long("process")])
def hurt(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Generator[Platform]:
    """A Prefecture of its own: the rest is to meet servers that are there."""
    with trial_platform(tmp_path_factory.mktemp("server"), request.param) as platform:
        yield platform


def kill_server(platform: Platform) -> int:
    """SIGKILL to whatever there is of the server now. Returns how much that was."""
    found = server(platform)
    for process in found:
        process.kill()
    return len(found)


@pytest.mark.thorough
def test_while_jobs_are_submitted(hurt: Platform, check: Check, few: int) -> None:
    drill = Drill(hurt, "SIGKILL server, submits")
    drill.submit(few // 2)
    assert kill_server(hurt)
    drill.submit(few - few // 2)
    check(drill, timeout=240)


def test_while_jobs_run(hurt: Platform, check: Check, few: int) -> None:
    drill = Drill(hurt, "SIGKILL server, runs")
    held = drill.submit_held(few, "staging", hold=1)
    assert kill_server(hurt)
    for job in held:
        drill.kill_at("staging", job)
    check(drill, timeout=240)


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_down_for_90_seconds(hurt: Platform, check: Check, count: int) -> None:
    drill = Drill(hurt, "server down for 90 s")
    held = drill.submit_held(count, "staging", hold=1)
    kill_server(hurt)
    drill.kill_at("staging", held[0])  # the other one waits, and goes on when it may
    drill.release(held[1])
    end = monotonic() + DOWN

    def over() -> bool:
        kill_server(hurt)  # whenever it is started again
        return monotonic() > end

    wait_until(over, DOWN + 30, "90 s are over")
    check(drill, timeout=400)


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_ten_times(hurt: Platform, check: Check, count: int) -> None:
    drill = Drill(hurt, "SIGKILL server x 10")
    for _ in range(10):
        drill.submit(max(1, count // 5), hold=1)
        wait_until(lambda: kill_server(hurt), what="a server to kill")
    check(drill, timeout=600)


@pytest.mark.thorough
def test_while_the_inbox_is_followed(hurt: Platform, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    with inbox.open("wb") as output:
        following = subprocess.Popen(
            ends_with_us(str(BIN / "prefecture"), "inbox", "--follow", "--limit", "0"),
            env=hurt.environment | {"PREFECT_API_URL": hurt.api},
            stdout=output,
            stderr=output,
        )

    def shown() -> Counter[str]:
        lines = inbox.read_text().splitlines()
        return Counter(line.split()[2] for line in lines if drill.name in line)

    try:
        wait_until(lambda: speaks_to(following.pid, hurt), what="it follows")
        drill = Drill(hurt, "SIGKILL server, inbox")
        drill.submit(1)
        wait_until(lambda: len(shown()) == 1, what="the first is shown")
        drill.submit(2)
        assert kill_server(hurt)
        drill.submit(1)
        wait_until(lambda: len(shown()) == 4, what="all are shown")
        assert shown() == Counter(str(job) for job in drill.jobs)
    finally:
        following.send_signal(signal.SIGINT)
        assert following.wait(240) == 0, inbox.read_text()
