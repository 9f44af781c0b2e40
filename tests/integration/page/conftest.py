"""Browsers at the page of a gateway, each signed in as a user."""

from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page

from deployments.gateway.users.tokens import USUAL, Scope, Tokens
from tests.support.platform import Platform
from tests.support.web.chromium import SCREENSHOTS, SignIn, chromium
from tests.support.web.gateway import Gateway, gateway_up


@pytest.fixture(scope="session")
def gateway(process_platform: Platform) -> Generator[Gateway]:
    """A gateway in front of the platform of the session."""
    with gateway_up(process_platform.home, process_platform.api) as gateway:
        yield gateway


@pytest.fixture
def browser(gateway: Gateway, tmp_path: Path) -> Generator[BrowserContext]:
    """A browser that nobody is signed in with."""
    with chromium(tmp_path / "profile", timezone_id="UTC") as context:
        yield context


@pytest.fixture
def sign_in(browser: BrowserContext, gateway: Gateway) -> Generator[SignIn]:
    """Sign a user in, by the form. Of several users, each has a browser of their own."""
    apart = browser.browser
    with ExitStack() as stack:
        users = list[str]()

        def enter(user: str, *scopes: Scope) -> Page:
            context = browser
            if users:
                assert apart is not None
                context = apart.new_context(locale="en-US")
                context.set_default_timeout(60_000)
                stack.callback(context.close)
            users.append(user)
            page = context.new_page()
            page.goto(f"{gateway.url}/")
            page.get_by_label("Your token").fill(Tokens(gateway.home).add(user, scopes or USUAL))
            page.get_by_role("button", name="Sign in").click()
            page.get_by_role("button", name="Sign out").wait_for()
            return page

        yield enter


@pytest.fixture
def screenshots() -> Path:
    """The folder of the pictures that a person looks at after the test."""
    return SCREENSHOTS
