"""The usage report in a browser: on a phone, in the dark, and on paper."""

import re
from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from tasks.history.database import open_history
from tasks.settings import Settings
from tests.support.needs import CHROMIUM, need_chromium
from tests.tasks.history.lives import last, lives
from tests.tasks.history.test_reports import answered
from tests.tasks.history.test_store import write

Show = Callable[..., Page]
PHONE = {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def show(tmp_path_factory: pytest.TempPathFactory) -> Generator[Show]:
    """Opens a report of two days in a new tab."""
    need_chromium()
    folder = tmp_path_factory.mktemp("report")
    begin = datetime.now(UTC) - timedelta(days=2)
    rows = [row for life in lives(5, 60, begin, timedelta(hours=30)) for row in last(life)]
    with open_history(Settings(home=folder)) as history:
        history.migrate()
        write(history, rows)
        _, report = answered(history, begin)
    (folder / "report.html").write_text(report.html)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )

        def open_it(**how: Any) -> Page:
            tab = browser.new_page(**how)
            tab.goto((folder / "report.html").as_uri())
            return tab

        yield open_it
        browser.close()


def brightness(tab: Page, of: str, what: str) -> float:
    """0 (black) to 255 of a colour, as it is shown."""
    colour = tab.eval_on_selector(of, f"element => getComputedStyle(element).{what}")
    parts = [float(part) for part in re.findall(r"[\d.]+", colour)[:3]]
    return sum(parts) / len(parts)


def test_on_a_phone_nothing_is_cut_off(show: Show) -> None:
    tab = show(viewport=PHONE)
    assert tab.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    widths = [box["width"] for box in map(box_of, tab.locator(".card svg").all())]
    assert len(widths) >= 6
    assert min(widths) > 0.75 * PHONE["width"]


def box_of(locator: Any) -> dict[str, float]:
    return locator.bounding_box()


@pytest.mark.parametrize(("scheme", "dark"), [("light", False), ("dark", True)])
def test_in_the_light_and_in_the_dark(show: Show, scheme: str, dark: bool) -> None:
    tab = show(color_scheme=scheme)
    grounds = [brightness(tab, of, "backgroundColor") for of in ("body", ".card")]
    texts = [brightness(tab, of, what) for of, what in (("h1", "color"), ("svg text", "fill"))]
    assert all((ground < 60) == dark for ground in grounds)
    assert all((text > 190) == dark for text in texts)


def test_on_paper(show: Show) -> None:
    tab = show(color_scheme="dark")
    tab.emulate_media(media="print", color_scheme="dark")
    assert brightness(tab, "body", "backgroundColor") == 255
    assert brightness(tab, ".card", "backgroundColor") == 255
    assert brightness(tab, "svg text", "fill") < 60
    avoids = "all => all.map(each => getComputedStyle(each).breakInside)"
    assert set(tab.eval_on_selector_all(".card, .tile, tr", avoids)) == {"avoid"}
    pages = re.findall(rb"/Type\s*/Page\b", tab.pdf(format="A4"))
    assert 2 <= len(pages) <= 5
