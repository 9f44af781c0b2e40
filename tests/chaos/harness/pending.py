"""Runs that are caught between Pending and their container or process."""

from collections.abc import Generator
from contextlib import contextmanager

from tasks.contracts import WORKER_LABEL
from tests.chaos.harness.drill import Drill, Run
from tests.support.platform import wait_until
from tests.support.processes import worker

_LOOKS = 50  # one after the other


@contextmanager
def worker_frozen_before_start(drill: Drill) -> Generator[list[Run]]:
    """While the block runs, the worker stands still, with runs it has taken and not started.

    The worker can be caught for some requests of each job that it takes. So it runs for one request
    between two looks, and a job always waits for it.
    """
    process = worker(drill.platform)

    def caught() -> list[Run]:
        process.suspend()
        # A worker labels a run before it gives it to a container or process.
        pending = drill.runs(type={"any_": ["PENDING"]})
        alone = [run for run in pending if not run["labels"].get(WORKER_LABEL)]
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
