"""The Docker engine is stopped and started: what ran, runs again; what waited, waits."""

import signal
from collections.abc import Generator
from typing import Any

import pytest

from tests.chaos.containers.waiting import open_gate, run_until_opened
from tests.chaos.harness.choice import long, named
from tests.chaos.harness.drill import Drill, is_paused, rest
from tests.chaos.harness.leftovers import users_containers
from tests.chaos.harness.platforms import trial_platform
from tests.chaos.harness.verdict import Check
from tests.support.engines.engine import Engine
from tests.support.platform import Platform, job_image, wait_until
from tests.support.session.on_time import OnTime

TARGET = 30.0  # seconds from the engine's answer to the next attempt Running
STOPS = [signal.SIGTERM, long(signal.SIGKILL)]


@pytest.fixture(scope="module")
def engine(second_engine: Engine) -> Engine:
    """The engine that is stopped."""
    if not second_engine.answers():  # another test has left it so
        second_engine.start()
    return second_engine


@pytest.fixture(scope="module")
def platform(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Generator[Platform]:
    """A Prefecture whose jobs are containers of the engine that may be stopped."""
    settings = {"DOCKER_HOST": engine.host, "PREFECTURE_IMAGE": job_image()}
    home = tmp_path_factory.mktemp("engine")
    with trial_platform(home, "docker", settings) as platform:
        yield platform


def events(platform: Platform, name: str) -> list[dict[str, Any]]:
    """The events of this name so far."""
    wanted = {"filter": {"event": {"name": [name]}}, "limit": 50}
    return rest(platform, "POST", "/events/filter", wanted)["events"]


def leave_stopped_until_noticed(engine: Engine, platform: Platform, number: int) -> None:
    engine.stop(signal.Signals(number))
    try:
        wait_until(lambda: is_paused(platform), what="the intake is paused")
        wait_until(
            lambda: events(platform, "prefecture.agent.unhealthy"), what="its event is there"
        )
    finally:
        engine.start()


@pytest.mark.parametrize("number", STOPS, ids=named)
def test_with_jobs_running(
    engine: Engine,
    platform: Platform,
    check: Check,
    few: int,
    number: signal.Signals,
    on_time: OnTime,
) -> None:
    drill = Drill(platform, f"{number.name} engine, running")
    drill.submit_held(few, "middle")
    leave_stopped_until_noticed(engine, platform, number)
    drill.all_die()
    wait_until(lambda: not is_paused(platform), what="the intake is resumed")
    row = check(drill)
    assert row.requeued >= 2
    on_time(max(row.delays) <= TARGET, row)
    assert events(platform, "prefecture.agent.healthy")


@pytest.mark.thorough
@pytest.mark.parametrize("number", STOPS, ids=named)
def test_with_containers_of_users(
    engine: Engine, platform: Platform, check: Check, number: signal.Signals
) -> None:
    drill = Drill(platform, f"{number.name} engine with containers")
    run_until_opened(drill, job_image())
    with engine.client() as client:
        wait_until(lambda: users_containers(client, drill.jobs), what="it runs")
    leave_stopped_until_noticed(engine, platform, number)
    open_gate(drill)
    drill.all_die()
    # No fault of its own: not the end of the job, whichever signal its container was ended with.
    assert check(drill).requeued == 1


# Not SIGKILL: in the middle of a start it leaves an engine that does not come back in a minute.
@pytest.mark.thorough
@pytest.mark.parametrize("number", STOPS[:1], ids=named)
def test_with_jobs_queued(
    engine: Engine, platform: Platform, check: Check, few: int, number: signal.Signals
) -> None:
    drill = Drill(platform, f"{number.name} engine, queued")
    drill.submit(few)
    engine.stop(number)
    try:
        drill.submit(2)
        wait_until(lambda: is_paused(platform), what="the intake is paused")
    finally:
        engine.start()
    check(drill)
