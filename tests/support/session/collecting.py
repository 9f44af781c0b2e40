"""The collection of tests by several processes: the first of them compiles for all.

Each process of pytest-xdist collects every test. In a fresh clone nothing is compiled yet, and
those that begin together would each compile everything, which is more than half of their work.
"""

import fcntl
import os
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Collect before all others, or once another process of this run of pytest has."""
    run: dict[str, Any] | None = getattr(session.config, "workerinput", None)
    if run is None:
        return (yield)
    with _mark(run["testrunuid"]).open("a+b") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        if os.fstat(mark.fileno()).st_size:
            fcntl.flock(mark, fcntl.LOCK_UN)
            return (yield)
        result = yield
        mark.write(b"collected")
        return result


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Remove the mark, where the first of the processes ends."""
    _mark(node.workerinput["testrunuid"]).unlink(missing_ok=True)


def _mark(run: str) -> Path:
    """The file that the processes of a run lock, and that is not empty once one has collected."""
    return Path(tempfile.gettempdir()) / f"prefecture-tests-{run}"
