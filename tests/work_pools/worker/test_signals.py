"""A worker ends at a signal, whatever it does at that moment."""

import signal
import subprocess
import sys

import pytest

from tests.support.platform import PATIENCE, ends_with_us

# Work that catches whatever is raised into it, as libraries do that call back into Python.
_CATCHES_ALL = """
import asyncio, time
from contextlib import suppress
from work_pools.worker.signals import until_stopped

async def work():
    print("working", flush=True)
    while True:
        with suppress(BaseException):
            time.sleep(0.2)
        await asyncio.sleep(0)

async def main():
    try:
        await until_stopped(work(), lambda line: print(line, flush=True))
    except asyncio.CancelledError:
        print("stopped", flush=True)
        {after}

asyncio.run(main())
"""


def started(after: str) -> subprocess.Popen[str]:
    command = ends_with_us(sys.executable, "-c", _CATCHES_ALL.format(after=after))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_is_heard_by_what_catches_everything(number: signal.Signals) -> None:
    with started("pass") as process:
        process.send_signal(number)
        out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert out.splitlines()[0].startswith("stopping: waiting 30 s for the jobs that run")
    assert out.splitlines()[1:] == ["stopped"]


def test_the_second_ends_it_at_once() -> None:
    with started("await asyncio.sleep(3600)") as process:
        assert process.stdout is not None
        process.send_signal(signal.SIGTERM)
        while process.stdout.readline() != "stopped\n":
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == -signal.SIGTERM
