"""A schedule in the page: made with the form of a job, then paused and removed."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.integration.page.forms import act, fill
from tests.support.web.chromium import SignIn

pytestmark = pytest.mark.thorough


def test_a_schedule_in_the_page(sign_in: SignIn, screenshots: Path) -> None:
    page = sign_in("sam")
    page.get_by_role("link", name="New job").first.click()
    page.get_by_role("link", name="find-primes").click()
    submit = page.get_by_role("button", name="Submit the job")
    submit.wait_for()
    fill(page, {"upper_bound": "100", "name": "nightly", "cron": "0 0 30 2 *"})
    submit.click()
    expect(page.locator("[data-path='cron'] .error")).to_contain_text("has no time")
    fill(page, {"cron": "30 2 * * *", "timezone": "Europe/Berlin"})
    submit.click()
    row = page.get_by_role("listitem").filter(has_text="nightly")
    expect(row).to_contain_text("find-primes · find-primes · 30 2 * * * · Europe/Berlin")
    expect(row).to_contain_text("next ")
    screenshots.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=screenshots / "page-schedules.png")
    page.get_by_role("button", name="Pause nightly").click()
    expect(row).to_contain_text("paused")
    page.get_by_role("button", name="Resume nightly").click()
    expect(row).to_contain_text("next ")
    act(page, "Remove nightly", "Remove")
    expect(page.get_by_text("You have no schedule yet.")).to_be_visible()
    page.get_by_role("link", name="Jobs").first.click()
    page.get_by_role("link", name="Schedules").click()
    expect(page.get_by_role("heading", name="Schedules")).to_be_visible()
