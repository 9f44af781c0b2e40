"""Debian's Chromium, headless, on a machine that has no other host than itself."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Page, expect, sync_playwright

from tests.support.needs import CHROMIUM, need_chromium
from tests.support.platform import PATIENCE

SCREENSHOTS = Path(__file__).parents[3] / "build" / "screenshots"
"""The folder of the pictures that a person looks at after the tests."""
SignIn = Callable[..., Page]
"""`sign_in(user, *scopes)`: a tab of the gateway's page, of a user who is signed in."""
_PATIENCE = 1000 * PATIENCE  # ms
_FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # Nothing is looked up or fetched from outside, by a page (Prefect's loads the configuration of
    # a telemetry service) or by Chromium itself.
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]


@contextmanager
def chromium(profile: Path, **options: Any) -> Generator[BrowserContext]:
    """A browser that reaches this machine alone. `options`: further ones of Playwright.

    Not by a route of Playwright's: each request would wait until the test calls Playwright next.
    """
    need_chromium()
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            headless=True,  # adds --headless
            args=_FLAGS,
            locale="en-US",  # of the messages that Chromium itself shows
            viewport={"width": 1280, "height": 1000},
            # Without a graphics card each frame of an animation is painted by a core: a quarter
            # of what a test of Prefect's UI costs.
            reduced_motion="reduce",
            **options,
        )
        context.set_default_timeout(_PATIENCE)
        expect.set_options(timeout=_PATIENCE)
        try:
            yield context
        finally:
            context.close()
