"""Runs that are caught between Pending and their container or process."""

from collections.abc import Generator
from contextlib import contextmanager

from tests.chaos.harness.drill import Drill, Run
from tests.support.containers import containers, run_of_container
from tests.support.platform import Platform, wait_until
from tests.support.processes import processes, worker

_LOOKS = 50  # one after the other
_RUN = "PREFECT__FLOW_RUN_ID"  # in the environment of a run's process, by Prefect's worker


def instances(platform: Platform) -> set[str]:
    """The flow runs that have a container or a process."""
    if platform.pool == "docker":
        return {run_of_container(one) for one in containers(platform)}
    return {environment.get(_RUN, "") for _, _, environment in processes(platform)}


@contextmanager
def worker_frozen_before_start(drill: Drill) -> Generator[list[Run]]:
    """While the block runs, the worker stands still, with runs it has taken and not started.

    With each job that it takes there is a moment, some requests long, in which it can be caught. So
    it is let go on for no longer than a request takes, and there is always a job for it to take.
    """
    process = worker(drill.platform)

    def caught() -> list[Run]:
        process.suspend()
        pending = list(drill.runs(type={"any_": ["PENDING"]}))
        there = instances(drill.platform) if pending else set[str]()
        alone = [run for run in pending if run["id"] not in there]
        if not alone:
            process.resume()
            if not list(drill.runs(type={"any_": ["SCHEDULED"]})):
                drill.submit(1, hold=0.5)
        return alone

    def caught_soon() -> list[Run]:
        looks = (caught() for _ in range(_LOOKS))
        return next((found for found in looks if found), list[Run]())

    runs = wait_until(caught_soon, what="a run is Pending, and not started")
    try:
        yield runs
    finally:
        if process.is_running():
            process.resume()
