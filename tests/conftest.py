"""Fixtures that start the real thing, once a session for each pool."""

import tests.support.session.environment  # noqa: F401  # pyright: ignore[reportUnusedImport]

# Above, before anything imports Prefect.
# isort: split
import signal
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tasks.settings import get_settings
from tests.support.images import make_album, make_traps
from tests.support.platform import Platform, platform_up
from tests.support.session import collecting, groups, tiers
from tests.support.session.on_time import OnTime
from tests.tasks.generation.topics.broker import Broker, mock_broker


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of tests/chaos: here, because pytest reads those of the outermost folder only."""
    group = parser.getgroup("chaos")
    group.addoption("--jobs", type=int, default=10, help="jobs that each fault is injected into")
    group.addoption("--chaos", action="store_true", help="run the long loops as well")
    group.addoption("--timed", action="store_true", help="assert how long things take, as well")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marks known, time no example of Hypothesis, and let Ctrl-C reach our children.

    A shell has what it starts in the background ignore SIGINT, and so would our children.
    """
    settings.register_profile(
        "tests", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
    )
    settings.load_profile("tests")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "chaos: a long loop, run with --chaos (make chaos) only")
    config.addinivalue_line("markers", "xdist_group: pytest-xdist's, where that is not there")
    config.addinivalue_line("markers", "thorough: run by `make test-rest`, not by `make test`")
    config.pluginmanager.register(groups)
    config.pluginmanager.register(collecting)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> Generator[None]:
    """Group the tests, and keep each group together, whatever else shuffles them."""
    if config.getoption("--timed"):
        timed = [item for item in items if "on_time" in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=[item for item in items if item not in timed])
        items[:] = timed
    groups.put_in_groups(items)
    tiers.leave_the_other_pool(items)
    yield
    groups.put_in_order(items)


@pytest.fixture
def on_time(request: pytest.FixtureRequest) -> OnTime:
    """Assert what depends on the machine's speed: with --timed alone, which `make bench` gives."""

    def judge(kept: bool, figures: object) -> None:
        assert kept or not request.config.getoption("--timed"), figures

    return judge


@contextmanager
def _furnished(
    factory: pytest.TempPathFactory, pool: str, settings: Mapping[str, str] | None = None
) -> Generator[Platform]:
    with platform_up(factory.mktemp(pool), pool, settings=settings) as platform:
        make_album(platform.inputs / "album")
        make_traps(platform.inputs, platform.home / "outside")
        yield platform


@pytest.fixture(scope="session")
def kafka() -> Generator[Broker]:
    """A broker on this machine's loopback."""
    with mock_broker() as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka_to_kill() -> Generator[Broker]:
    """Another, for the test that kills it."""
    with mock_broker() as broker:
        yield broker


@pytest.fixture(scope="session")
def docker_platform(
    tmp_path_factory: pytest.TempPathFactory, kafka: Broker, kafka_to_kill: Broker
) -> Generator[Platform]:
    """A running Prefecture whose jobs are containers; they reach the server and the brokers."""
    listed = {"PREFECTURE_JOB_HOSTS": f"{kafka.address},{kafka_to_kill.address}"}
    with _furnished(tmp_path_factory, "docker", listed) as platform:
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
def here(process_platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Generator[Platform]:
    """A running Prefecture whose address is in the environment of this process."""
    monkeypatch.setenv("PREFECT_API_URL", process_platform.api)
    monkeypatch.setenv("PREFECTURE_HOME", str(process_platform.home))
    get_settings.cache_clear()
    yield process_platform
    get_settings.cache_clear()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home of its own, for a test that starts and stops a Prefecture."""
    return tmp_path / "home"
