"""`prefecture up` is stopped with a job running, in the ways that tests/integration leaves out."""

import signal
from pathlib import Path

import pytest

from tests.chaos.harness.choice import long
from tests.chaos.harness.stopping import survives


@pytest.mark.parametrize(
    ("pool", "stop"), [long("docker", signal.SIGINT), long("process", signal.SIGKILL)], ids=str
)
def test_stopped(home: Path, pool: str, stop: signal.Signals) -> None:
    survives(home, pool, stop)
