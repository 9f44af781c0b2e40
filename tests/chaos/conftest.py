"""Platforms to hurt, one a session for each pool, and the table of what became of their jobs."""

from collections.abc import Generator
from dataclasses import asdict
from typing import Any

import pytest

from tests.chaos.harness.drill import Drill
from tests.chaos.harness.leftovers import TIDY
from tests.chaos.harness.platforms import trial_platform
from tests.chaos.harness.table import Row, lines
from tests.chaos.harness.verdict import Check, Verdict
from tests.support.engines.engine import Engine, own_engine
from tests.support.platform import PATIENCE, Platform, job_image

_ROWS = pytest.StashKey[list[Row]]()


def pytest_configure(config: pytest.Config) -> None:
    """An empty table."""
    config.stash[_ROWS] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long loops, where they are not asked for."""
    if config.getoption("--chaos"):
        return
    long = [item for item in items if item.get_closest_marker("chaos")]
    items[:] = [item for item in items if item not in long]
    config.hook.pytest_deselected(items=long)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the rows of this process to the one that prints them, where there are several."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["faults"] = [asdict(row) for row in session.config.stash[_ROWS]]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over the rows of a process that has ended; one that crashed has left none."""
    rows = getattr(node, "workeroutput", {}).get("faults", [])
    node.config.stash[_ROWS] += [Row(**row) for row in rows]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table."""
    rows = config.stash[_ROWS]
    if rows:
        terminalreporter.section("faults: what became of the jobs")
        for line in lines(rows):
            terminalreporter.write_line(line)
        terminalreporter.write_line("median, max: from a death to the next attempt Running")
        terminalreporter.write_line("normal: from the end of the fault to Running, of a new job")


@pytest.fixture(scope="session")
def docker_trials(tmp_path_factory: pytest.TempPathFactory) -> Generator[Platform]:
    """Jobs are containers."""
    with trial_platform(tmp_path_factory.mktemp("chaos-docker"), "docker") as platform:
        yield platform


@pytest.fixture(scope="session")
def process_trials(tmp_path_factory: pytest.TempPathFactory) -> Generator[Platform]:
    """Jobs are plain processes."""
    settings = {"PREFECTURE_ALLOW_PRIVATE_WEBHOOKS": "true"}
    home = tmp_path_factory.mktemp("chaos-process")
    with trial_platform(home, "process", settings) as platform:
        yield platform


@pytest.fixture(scope="session")
def second_engine() -> Generator[Engine]:
    """An engine that may be stopped, with the image of jobs: as that of another host."""
    with own_engine(job_image()) as engine:
        yield engine


@pytest.fixture(params=["docker", "process"])
def trials(request: pytest.FixtureRequest) -> Platform:
    """Jobs of each pool in turn."""
    return request.getfixturevalue(f"{request.param}_trials")


@pytest.fixture
def count(request: pytest.FixtureRequest) -> int:
    """How many jobs a fault is injected into."""
    jobs: int = request.config.option.jobs
    return jobs


@pytest.fixture
def few(request: pytest.FixtureRequest, count: int) -> int:
    """The same, where `make test` has not the time for as many."""
    return count if request.config.getoption("--chaos") else min(count, 4)


@pytest.fixture
def table(request: pytest.FixtureRequest) -> list[Row]:
    """The rows so far, for the tests that measure by themselves."""
    return request.config.stash[_ROWS]


@pytest.fixture
def check(table: list[Row]) -> Check:
    """Wait until every job of a drill has ended and everything is tidy; assert that all is well.

    `expect` is the state that every job has to end in. A fresh job has to run afterwards. What has
    ended may be left for `patience` seconds; the platforms' fixtures see that it goes.
    """

    def judge(
        drill: Drill, expect: str = "COMPLETED", timeout: float = PATIENCE, patience: float = TIDY
    ) -> Row:
        verdict = Verdict(drill, expect, timeout, patience=patience)
        table.append(verdict.row)
        assert not verdict.wrong, verdict.text
        fresh = Drill(drill.platform, "afterwards")
        fresh.submit(1)
        after = Verdict(fresh, "COMPLETED", PATIENCE)
        assert not after.wrong, f"a job submitted afterwards: {after.text}"
        return verdict.row

    return judge
