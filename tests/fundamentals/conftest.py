"""A running Prefecture, as the programs of a user find it: by their environment."""

import pytest

from tests.support.platform import Platform


@pytest.fixture
def prefecture(here: Platform) -> Platform:
    """What `prefecture up` has started, named by the environment of this process."""
    return here
