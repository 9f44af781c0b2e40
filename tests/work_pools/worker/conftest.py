"""What the tests of workers share."""

from collections.abc import Generator

import pytest

from tests.support.servers import stock_server


@pytest.fixture(scope="session")
def stock_api(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """A server of Prefect's own, whose pools, flows and runs have names of one test each."""
    with stock_server(tmp_path_factory.mktemp("stock")) as api:
        yield api
