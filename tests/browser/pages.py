"""Opening a page of Prefect's UI."""

from playwright.sync_api import Locator, Page, TimeoutError

from tests.support.platform import wait_until

_LOOK = 60_000  # ms; a page that is not empty shows its frame in a tenth of that on a busy machine


def log_in(page: Page, link: str, ui: str, sign: Locator) -> None:
    """Open a link that logs in, and the UI's start page until it shows `sign`.

    Not the start page at once: it was seen to ask the server without what the page of the link had
    just stored, in one of five, and then the UI takes the login for wrong and forgets it.
    """
    page.goto(link)
    try:
        sign.wait_for(timeout=_LOOK)
    except TimeoutError:
        visit(page, ui, sign)


def visit(page: Page, address: str, sign: Locator) -> None:
    """Open a page, and again until it shows `sign`, as a person does.

    The page stays empty where one of the UI's 70 scripts does not arrive, which a busy machine has
    seen: nothing asks for it again.
    """

    def is_shown() -> bool:
        page.goto(address)
        try:
            sign.wait_for(timeout=_LOOK)
        except TimeoutError:
            return False
        return True

    wait_until(is_shown, what=f"{address} is shown")
