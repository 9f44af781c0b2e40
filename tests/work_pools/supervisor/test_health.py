"""The checks of a host with a Docker engine."""

from collections.abc import Generator
from pathlib import Path

import docker
import pytest

from tasks.contracts import Pool
from tasks.settings import Settings
from tasks.storage.results.opening import open_results
from tests.support.needs import need_docker
from work_pools.supervisor.health import checks_of
from work_pools.supervisor.infrastructure.containers import Containers


@pytest.fixture
def runtimes() -> Generator[set[str]]:
    """Those of the engine here."""
    need_docker()
    client = docker.from_env()
    yield set(client.info()["Runtimes"])
    client.close()


async def test_a_runtime_that_the_engine_does_not_have(tmp_path: Path, runtimes: set[str]) -> None:
    instances = Containers()

    def fault(runtime: str) -> str | None:
        settings = Settings(home=tmp_path, runtime=runtime)
        checks = checks_of(Pool.DOCKER, instances, open_results(settings), settings)
        return checks["runtime"](settings)

    try:
        assert [fault(runtime) for runtime in sorted(runtimes)] == [None] * len(runtimes)
        said = fault("nowhere")
        assert said is not None
        assert said.startswith("the engine has no runtime 'nowhere': install it, or set")
        assert "runc" in said
    finally:
        await instances.close()
