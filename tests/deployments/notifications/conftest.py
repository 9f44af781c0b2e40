"""What the tests of notifications share: ends of jobs, and secrets on a real server."""

from collections.abc import Generator

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from tests.support.platform import Platform


@pytest.fixture
def server(process_platform: Platform) -> Generator[Platform]:
    """A running Prefecture, which the test's own Prefect client talks to."""
    with temporary_settings({PREFECT_API_URL: process_platform.api}):
        yield process_platform
