"""A person with a browser: from photos on their disk to smaller ones, without a reload."""

import io
import zipfile
from pathlib import Path
from typing import Any
from uuid import UUID

from axe_playwright_python.sync_playwright import Axe  # pyright: ignore[reportMissingTypeStubs]
from playwright.sync_api import Locator, Page, expect

from tests.integration.page.forms import drop
from tests.support.images import photo
from tests.support.platform import Platform, pause
from tests.support.web.chromium import SignIn

NAMES = ("beach.jpg", "harbour.jpg")
LEAVING = """() => {
    const leaving = new Event("beforeunload", {cancelable: true});
    window.dispatchEvent(leaving);
    return leaving.defaultPrevented;
}"""


def jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    photo(900, 600, seed).save(file, "JPEG", quality=95)
    return file.getvalue()


def is_drawn(picture: Locator) -> Any:
    picture.scroll_into_view_if_needed()
    return picture.evaluate("async image => (await image.decode(), image.naturalWidth)")


def faults(page: Page) -> list[str]:
    """What in a page is against WCAG 2, levels A and AA, as far as a program can tell."""
    rules = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
    found: Any = Axe().run(page, options=rules)  # pyright: ignore[reportUnknownMemberType]
    assert found.response["passes"], "it has looked at something"
    return [found.generate_report()] if found.violations_count else []


def shoot(page: Page, folder: Path, name: str) -> None:
    """Light, dark and as on a phone."""
    page.evaluate("window.scrollTo(0, 0)")
    page.screenshot(path=folder / f"{name}-light.png")
    assert faults(page) == []
    page.emulate_media(color_scheme="dark")
    page.screenshot(path=folder / f"{name}-dark.png")
    assert faults(page) == []
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 390, "height": 844})
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= 390, "it is wider than a phone"
    page.screenshot(path=folder / f"{name}-phone.png")
    page.set_viewport_size({"width": 1280, "height": 1000})


def test_photos_are_dropped_compressed_seen_and_fetched(
    sign_in: SignIn, process_platform: Platform, screenshots: Path
) -> None:
    photos = {name: jpeg(seed) for seed, name in enumerate(NAMES)}
    page = sign_in("petra")
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.evaluate("window.isStillThere = true")
    page.get_by_role("link", name="New job").first.click()
    page.get_by_role("link", name="compress-images").click()
    page.context.set_offline(True)
    drop(page.locator(".drop").first, photos)
    expect(page.locator(".upload")).to_contain_text("0 of 2 files")
    assert page.evaluate(LEAVING), "it is asked first, as the files are on their way"
    page.context.set_offline(False)
    expect(page.get_by_text("2 files")).to_contain_text("uploaded")
    assert not page.evaluate(LEAVING)
    ratio = page.get_by_label("Ratio")
    ratio.fill("5")
    submit = page.get_by_role("button", name="Submit the job")
    submit.click()
    expect(page.locator("[data-path=ratio] .error")).to_have_text("5 is not over 0 and up to 1")
    expect(ratio).to_be_focused()
    ratio.fill("0.4")
    shoot(page, screenshots, "page-form")
    with pause(process_platform):
        submit.click()
        badge = page.locator("h1 .badge")
        expect(badge).to_have_text("Waiting")
        expect(page.locator(".now-line")).to_contain_text("paused")
        job = UUID(page.url.rpartition("/")[2])
    expect(badge).to_have_text("Done")
    expect(page.get_by_role("status", name="Notices")).to_contain_text("compress-images")
    assert page.title().startswith("(1) ")
    expect(page.locator(".now progress")).to_have_js_property("value", 1)
    expect(page.locator(".story")).to_contain_text("Started")
    expect(page.get_by_role("log")).to_contain_text("Finished in state Completed()")
    for name in NAMES:
        for side in ("Before", "After"):
            assert is_drawn(page.get_by_alt_text(f"{side}: {name}")) == 900
    shoot(page, screenshots, "page-job")
    page.get_by_role("button", name=f"Look at {NAMES[0]}").click()
    slider = page.get_by_role("slider")
    slider.fill("20")
    page.screenshot(path=screenshots / "page-before-and-after.png")
    page.keyboard.press("Escape")
    expect(slider).to_have_count(0)
    published = process_platform.completed(job, "beach")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download all").click()
    with zipfile.ZipFile(download.value.path()) as archive:
        assert {*archive.namelist()} == {*NAMES, "manifest.json"}
        for name in NAMES:
            assert archive.read(name) == (published / name).read_bytes()
            assert len(archive.read(name)) <= 0.4 * len(photos[name])
    with page.expect_download() as download:
        page.get_by_role("link", name=f"Fetch {NAMES[1]}").click()
    assert download.value.path().read_bytes() == (published / NAMES[1]).read_bytes()
    page.get_by_role("link", name="Copy and change").click()
    expect(ratio).to_have_value("0.4")
    ratio.fill("0.9")
    submit.click()
    expect(badge).to_have_text("Done")
    page.get_by_role("link", name="Jobs").first.click()
    expect(page.locator("tbody tr .badge.completed")).to_have_count(2)
    shoot(page, screenshots, "page-jobs")
    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_role("heading", name="Pool process")).to_be_visible()
    expect(page.get_by_role("img", name="done")).to_be_visible()
    shoot(page, screenshots, "page-overview")
    assert page.evaluate("window.isStillThere"), "the page was loaded anew"
    assert errors == []
