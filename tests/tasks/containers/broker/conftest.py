"""A broker for each file of tests, and a run for each test."""

import gc
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from tasks.containers.broker.runs import Run
from tests.support.needs import need_docker
from tests.tasks.containers.broker.harness import Bench, brokered


@pytest.fixture(scope="module")
def bench() -> Generator[Bench]:
    need_docker()
    # Not under pytest's folder: an address of a socket has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="broker-") as folder, brokered(Path(folder)) as made:
        yield made
    gc.collect()


@pytest.fixture
def run(bench: Bench) -> Run:
    return bench.run()
