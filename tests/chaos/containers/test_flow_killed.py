"""The flow beside users' containers is killed: they are ended, and run again."""

from functools import partial

import pytest

from tests.chaos.containers.waiting import generate_for, open_gate, run_until_opened
from tests.chaos.harness.drill import Drill
from tests.chaos.harness.leftovers import users_containers
from tests.chaos.harness.verdict import Check
from tests.integration.run_container.jobs import some_image
from tests.support.containers import engine, kill_container
from tests.support.platform import Platform, wait_until


# One of each kind is killed in tests/integration, every time.
@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_again_and_again(docker_trials: Platform, check: Check, count: int) -> None:
    for number in range(count):
        drill = Drill(docker_trials, f"SIGKILL beside containers {number}")
        jobs = [run_until_opened(drill, some_image()), generate_for(drill, some_image(), 25)]
        with engine(docker_trials) as client:
            for job in jobs:
                wait_until(partial(users_containers, client, {job}), what="it has begun")
                kill_container(docker_trials, str(job))
        open_gate(drill)
        assert check(drill).requeued == 2
