"""A browser at Prefect's UI."""

from collections.abc import Generator
from pathlib import Path
from typing import cast

import pytest
from playwright.sync_api import Page

from deployments import login_link
from tests.browser.pages import log_in
from tests.support.platform import Platform
from tests.support.session.environment import PASSWORD
from tests.support.web.chromium import SCREENSHOTS, chromium


@pytest.fixture
def page(
    docker_platform: Platform, tmp_path: Path, request: pytest.FixtureRequest
) -> Generator[Page]:
    """A tab at the start page of the UI. What it shows at the end of the test is kept."""
    with chromium(tmp_path / "profile") as context:
        test = cast(pytest.Item, request.node)  # pyright: ignore[reportUnknownMemberType]
        tab = context.new_page()
        link = login_link.make(docker_platform.ui, PASSWORD)
        sign = tab.get_by_role("link", name="Deployments", exact=True)
        log_in(tab, link, docker_platform.ui, sign)
        yield tab
        tab.screenshot(path=SCREENSHOTS / f"end-of-{test.name}.png")


@pytest.fixture
def screenshots() -> Path:
    """The folder of the pictures that a person looks at after the test."""
    return SCREENSHOTS
