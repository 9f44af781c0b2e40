"""Debian's Chromium, headless, on a machine that has no other host than itself."""

from collections.abc import Generator
from pathlib import Path
from typing import cast

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from deployments import login_link
from tests.browser.pages import log_in
from tests.support.needs import CHROMIUM, need_chromium
from tests.support.platform import PATIENCE, Platform
from tests.support.session.environment import PASSWORD

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
_PATIENCE = 1000 * PATIENCE  # ms
_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # Nothing is looked up or fetched from outside, by the UI (which loads the configuration of a
    # telemetry service) or by Chromium itself.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]


@pytest.fixture
def page(
    docker_platform: Platform, tmp_path: Path, request: pytest.FixtureRequest
) -> Generator[Page]:
    """A tab at the start page of the UI. What it shows at the end of the test is kept."""
    need_chromium()
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile",
            executable_path=CHROMIUM,
            headless=True,  # adds --headless
            args=_FLAGS,
            locale="en-US",  # of the messages that Chromium itself shows
            viewport={"width": 1280, "height": 1000},
        )
        context.set_default_timeout(_PATIENCE)
        expect.set_options(timeout=_PATIENCE)
        context.route(
            lambda url: not url.startswith(docker_platform.ui), lambda route: route.abort()
        )
        test = cast(pytest.Item, request.node)  # pyright: ignore[reportUnknownMemberType]
        tab = context.new_page()
        link = login_link.make(docker_platform.ui, PASSWORD)
        sign = tab.get_by_role("link", name="Deployments", exact=True)
        log_in(tab, link, docker_platform.ui, sign)
        yield tab
        tab.screenshot(path=SCREENSHOTS / f"end-of-{test.name}.png")
        context.close()


@pytest.fixture
def screenshots() -> Path:
    """The folder of the pictures that a person looks at after the test."""
    return SCREENSHOTS
