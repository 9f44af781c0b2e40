"""The table of one's own jobs: live, for many at once, and while the server is away."""

from pathlib import Path
from uuid import UUID

import httpx
from playwright.sync_api import expect

from deployments.gateway.users.tokens import Tokens
from tests.integration.page.forms import act
from tests.support.platform import Platform, pause
from tests.support.web.chromium import SignIn, chromium
from tests.support.web.gateway import Gateway, gateway_up
from tests.support.web.relay import relay

MANY = 52  # more than a page of the table
RECONNECT = """async () => {
    const script = document.querySelector("link[href$='/api.js']").href;
    (await import(script)).connection.dispatchEvent(new Event("back"));
}"""

NOTICES = """async (number) => {
    const script = document.querySelector("link[href$='/api.js']").href;
    const { jobEnded, say } = await import(script.replace(/api\\.js$/, "notice.js"));
    say("An answer.");
    for (let job = 0; job < number; job += 1)
        jobEnded({ job, task: "find-primes", name: `job ${job}`, outcome: "cancelled" });
    return [...document.querySelectorAll(".notice")].map((notice) => notice.firstChild.innerText);
}"""


def submit(user: httpx.Client, **more: str) -> UUID:
    body = {"task": "find-primes", "payload": {"upper_bound": 100}, "results_directory": "page"}
    answer = user.post("/jobs", json=body | more)
    assert answer.is_success, answer.text
    return UUID(answer.json()["job"])


def test_users_see_their_own_jobs_as_they_come_and_go(
    sign_in: SignIn, gateway: Gateway, process_platform: Platform
) -> None:
    nina, oskar = sign_in("nina"), sign_in("oskar")
    expect(nina.get_by_text("You have no jobs yet.")).to_be_visible()
    with gateway.user("nina") as client:
        with pause(process_platform):
            job = submit(client, name="of-nina")
            row = nina.get_by_role("row", name="of-nina")
            expect(row.locator(".badge")).to_have_text("Waiting")
        expect(row.locator(".badge")).to_have_text("Done")
        expect(nina.get_by_role("status", name="Notices")).to_contain_text("of-nina")
        again = submit(client, name="the-next")
        process_platform.ended(again)
        expect(nina.locator("tbody tr").first).to_contain_text("the-next")
    expect(oskar.get_by_text("You have no jobs yet.")).to_be_visible()
    assert oskar.get_by_role("status", name="Notices").inner_text() == ""
    oskar.goto(f"{gateway.url}/jobs/{job}")
    expect(oskar.get_by_text(f"there is no job {job}")).to_be_visible()


def test_many_jobs_are_cancelled_restarted_and_deleted(
    sign_in: SignIn, gateway: Gateway, process_platform: Platform
) -> None:
    page = sign_in("paul")
    with gateway.user("paul") as paul, pause(process_platform):
        body = {"task": "find-primes", "results_directory": "page"}
        body |= {"payloads": [{"upper_bound": 100}] * MANY}
        assert paul.post("/jobs/bulk", json=body).is_success
        page.goto(f"{gateway.url}/?task=find-primes")
        expect(page.locator("tbody tr")).to_have_count(50)
        expect(page.get_by_text(f"50 of {MANY} jobs")).to_be_visible()
        expect(page.get_by_text(" before it").first).to_be_visible()
        for row in (0, 1):
            page.locator("tbody").get_by_role("checkbox").nth(row).check()
        page.get_by_role("button", name="Move 2", exact=True).click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_contain_text("2 find-primes waiting in normal")
        expect(dialog.get_by_label("To the queue")).to_have_value("low")
        dialog.get_by_role("button", name="Move them").click()
        expect(page.locator("tbody td.queue", has_text="low")).to_have_count(2)
        page.get_by_label("Select all", exact=True).check()
        page.get_by_role("button", name=f"Select all {MANY} jobs").click()
        act(page, "Cancel all", "Cancel them")
        expect(page.get_by_text(f"{MANY} jobs cancelled.")).to_be_visible()
        expect(page.locator("tbody .badge.cancelled")).to_have_count(50)
        page.locator("tbody").get_by_role("checkbox").first.check()
        act(page, "Run 1 again", "Run again")
        expect(page.locator("tbody .badge.waiting")).to_have_count(1)
        page.get_by_role("combobox", name="State").select_option("Cancelled")
        expect(page.locator("tbody .badge.waiting")).to_have_count(0)
        with page.expect_response(lambda answer: f"jobs?limit={MANY}" in answer.url):
            page.get_by_role("button", name="Load more").click()
            page.evaluate(RECONNECT)  # the list is read anew, after the rest of it and as long
        expect(page.locator("tbody tr")).to_have_count(MANY)
        page.get_by_label("Select all", exact=True).check()
        act(page, f"Delete {MANY}", "Delete them")
        expect(page.get_by_text("No job is like that.")).to_be_visible()
        page.get_by_role("link", name="Show all").click()
        page.locator("tbody tr a").click()
        page.get_by_role("button", name="Hold", exact=True).click()
        expect(page.locator("h1 .badge")).to_have_text("Held")
        page.get_by_role("combobox", name="Queue").select_option("low")
        expect(page.get_by_text("Moved to another queue")).to_be_visible()
        page.get_by_role("button", name="Release", exact=True).click()
        expect(page.locator("h1 .badge")).to_have_text("Waiting")
        act(page, "Cancel", "Cancel it")
        expect(page.locator("h1 .badge")).to_have_text("Cancelled")
        assert len(paul.get("/jobs").json()["jobs"]) == 1


def test_many_jobs_that_end_leave_an_answer_where_it_is(sign_in: SignIn) -> None:
    page = sign_in("yara")
    expect(page.get_by_text("You have no jobs yet.")).to_be_visible()
    named = [f"find-primes “job {number}”: cancelled" for number in range(3)]
    assert page.evaluate(NOTICES, MANY) == ["An answer.", *named, f"{MANY - 3} more jobs ended"]


def test_a_job_is_run_after_another_and_its_result_is_deleted(
    sign_in: SignIn, gateway: Gateway, process_platform: Platform
) -> None:
    page = sign_in("vera")
    with gateway.user("vera") as vera:
        with pause(process_platform):
            first = submit(vera, name="the-first")
            page.goto(f"{gateway.url}/jobs/{first}")
            page.get_by_role("link", name="Then run …").click()
            expect(page.get_by_role("heading", name="Run after the-first")).to_be_visible()
            page.get_by_role("link", name="average-files").click()
            source = page.locator("[data-path=source] input[type=text]")
            expect(source).to_have_value(f"job://{first}/")
            page.get_by_text("More: results directory").click()
            waits = page.get_by_role("list", name="Jobs to wait for")
            expect(waits).to_contain_text("the-first · find-primes · Waiting")
            named = page.get_by_label("After other jobs")
            named.fill("no-such-key")
            named.press("Enter")
            page.get_by_role("button", name="Submit the job").click()
            expect(page.locator("[data-path=after] .error")).to_contain_text("'no-such-key'")
            page.get_by_role("button", name="Do not wait for no-such-key").click()
            page.get_by_role("button", name="Submit the job").click()
            expect(page.locator("h1 .badge")).to_have_text("After other jobs")
            expect(page.locator(".now-line")).to_contain_text("the-first")
            page.get_by_role("link", name=str(first)[:8]).click()
            expect(page.get_by_role("heading", name="the-first")).to_be_visible()
        process_platform.completed(first, "page")
        page.get_by_role("button", name="Delete the result").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete the result").click()
        expect(page.get_by_role("region", name="Files")).to_contain_text("it was deleted")
        assert vera.get(f"/jobs/{first}/result").status_code == 410


def test_the_page_says_that_the_server_is_away_and_recovers(
    process_platform: Platform, tmp_path: Path
) -> None:
    tokens = Tokens(process_platform.home)
    with (
        relay(process_platform.port) as line,
        gateway_up(process_platform.home, f"http://127.0.0.1:{line.port}/api") as gateway,
        chromium(tmp_path / "profile") as browser,
        gateway.user("rhea") as rhea,
    ):
        page = browser.new_page()
        page.goto(f"{gateway.url}/sign-in")
        page.get_by_label("Your token").fill(tokens.add("rhea"))
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_text("You have no jobs yet.")).to_be_visible()
        line.cut()
        page.get_by_role("link", name="Overview").click()
        away = page.get_by_text("The server does not answer.")
        expect(away).to_be_visible()
        line.mend()
        expect(away).to_have_count(0)
        expect(page.get_by_role("heading", name="Pool process")).to_be_visible()
        job = submit(rhea, name="after-it")
        process_platform.ended(job)
        page.get_by_role("link", name="Jobs", exact=True).click()
        expect(page.get_by_role("row", name="after-it").locator(".badge")).to_have_text("Done")
