"""A Prefecture as a program of a user sees it: by its environment."""

from collections.abc import Generator

import pytest

from tasks.settings import get_settings
from tests.support.platform import Platform


@pytest.fixture
def here(process_platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Generator[Platform]:
    """A running Prefecture that this process is told of."""
    monkeypatch.setenv("PREFECT_API_URL", process_platform.api)
    monkeypatch.setenv("PREFECTURE_HOME", str(process_platform.home))
    get_settings.cache_clear()
    yield process_platform
    get_settings.cache_clear()
