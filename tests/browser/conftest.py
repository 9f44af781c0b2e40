"""A browser at Prefect's UI."""

from collections.abc import Generator
from pathlib import Path
from typing import cast

import pytest
from playwright.sync_api import BrowserContext, Locator, Page

from deployments import login_link
from tests.browser.pages import log_in, visit
from tests.support.platform import Platform
from tests.support.session.environment import PASSWORD
from tests.support.web.chromium import SCREENSHOTS, chromium


@pytest.fixture(scope="module")
def browser(
    docker_platform: Platform, tmp_path_factory: pytest.TempPathFactory
) -> Generator[BrowserContext]:
    """The browser of a file, logged in at the UI."""
    profile = tmp_path_factory.mktemp("profile")
    with chromium(profile) as context:
        tab = context.new_page()
        link = login_link.make(docker_platform.ui, PASSWORD)
        log_in(tab, link, docker_platform.ui, _shown(tab))
        tab.close()
        yield context


@pytest.fixture
def tab(browser: BrowserContext, request: pytest.FixtureRequest) -> Generator[Page]:
    """An empty tab. What it shows at the end of the test is kept."""
    test = cast(pytest.Item, request.node)  # pyright: ignore[reportUnknownMemberType]
    tab = browser.new_page()
    yield tab
    tab.screenshot(path=SCREENSHOTS / f"end-of-{test.name}.png")
    tab.close()


@pytest.fixture
def page(tab: Page, docker_platform: Platform) -> Page:
    """A tab at the start page of the UI."""
    visit(tab, docker_platform.ui, _shown(tab))
    return tab


@pytest.fixture
def screenshots() -> Path:
    """The folder of the pictures that a person looks at after the test."""
    return SCREENSHOTS


def _shown(tab: Page) -> Locator:
    """What the UI's start page shows."""
    return tab.get_by_role("link", name="Deployments", exact=True)
