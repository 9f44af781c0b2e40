"""Fixtures that start the real thing, once a session for each pool."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.images import make_album, make_traps
from tests.support.platform import Platform, platform_up


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
