"""Fixtures that start the real thing, once a session for each pool."""

import signal
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.images import make_album, make_traps
from tests.support.platform import Platform, platform_up


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of tests/chaos: here, because pytest reads those of the outermost folder only."""
    group = parser.getgroup("chaos")
    group.addoption("--jobs", type=int, default=10, help="jobs that each fault is injected into")
    group.addoption("--chaos", action="store_true", help="run the long loops as well")


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark of the long loops known, and Ctrl-C something that a child can be sent.

    A shell has what it starts in the background ignore SIGINT, and so would our children.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "chaos: a long loop, run with --chaos (make chaos) only")


@contextmanager
def _furnished(factory: pytest.TempPathFactory, pool: str) -> Generator[Platform]:
    with platform_up(factory.mktemp(pool), pool) as platform:
        make_album(platform.inputs / "album")
        make_traps(platform.inputs, platform.home / "outside")
        yield platform


@pytest.fixture(scope="session")
def docker_platform(tmp_path_factory: pytest.TempPathFactory) -> Generator[Platform]:
    """A running Prefecture whose jobs are containers."""
    with _furnished(tmp_path_factory, "docker") as platform:
        yield platform


@pytest.fixture(scope="session")
def process_platform(tmp_path_factory: pytest.TempPathFactory) -> Generator[Platform]:
    """A running Prefecture whose jobs are plain processes."""
    with _furnished(tmp_path_factory, "process") as platform:
        yield platform


@pytest.fixture(scope="session", params=["docker", "process"])
def platform(request: pytest.FixtureRequest) -> Platform:
    """A running Prefecture, on each pool in turn."""
    return request.getfixturevalue(f"{request.param}_platform")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home of its own, for a test that starts and stops a Prefecture."""
    return tmp_path / "home"
