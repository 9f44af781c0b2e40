"""A running Prefecture, as the programs of a user find it: by their environment."""

from collections.abc import Generator

import pytest

from tasks.settings import get_settings
from tests.support.platform import Platform


@pytest.fixture
def prefecture(process_platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Generator[Platform]:
    """What `prefecture up` has started, named by the environment of this process."""
    monkeypatch.setenv("PREFECT_API_URL", process_platform.api)
    monkeypatch.setenv("PREFECTURE_HOME", str(process_platform.home))
    get_settings.cache_clear()
    yield process_platform
    get_settings.cache_clear()
