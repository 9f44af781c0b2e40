"""A person with a browser and their own containers: built, watched, stopped and run again."""

import json
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from playwright.sync_api import Page, expect

from tests.integration.page.forms import act, drop, fill
from tests.integration.run_container.jobs import DEMO, some_image
from tests.support.platform import Platform
from tests.support.web.chromium import SignIn
from tests.support.web.gateway import Gateway, gateway_up

GENERATOR = "while :; do echo '{\"n\": 1}'; sleep 0.1; done"


@pytest.fixture(scope="module")
def gateway(docker_platform: Platform) -> Generator[Gateway]:
    """A gateway in front of the platform that has an engine."""
    with gateway_up(docker_platform.home, docker_platform.api) as gateway:
        yield gateway


def submitted(page: Page) -> UUID:
    """Submit the form, and wait for the page of its job."""
    page.get_by_role("button", name="Submit the job").click()
    page.wait_for_url("**/jobs/*", timeout=30_000)
    return UUID(page.url.rpartition("/")[2])


@pytest.mark.thorough
def test_an_image_is_built_from_dropped_files(
    sign_in: SignIn, gateway: Gateway, docker_platform: Platform
) -> None:
    """The demo of the original system: files on the form, the log followed, /output fetched."""
    page = sign_in("dora")
    page.goto(f"{gateway.url}/new/run-container")
    page.get_by_role("radio", name="Build").check(force=True)
    dockerfile = f'FROM {some_image()}\nCOPY . /\nENTRYPOINT ["sh", "/entrypoint.sh"]\n'
    script = DEMO["script"].format(meanwhile="sleep 5")
    files = {"Dockerfile": dockerfile.encode(), "entrypoint.sh": script.encode()}
    drop(page.locator("[data-path='build.context'] .drop"), files)
    expect(page.get_by_text("2 files")).to_contain_text("uploaded")
    job = submitted(page)
    expect(page.get_by_role("log")).to_contain_text("started")
    expect(page.get_by_role("log")).to_contain_text("done")
    expect(page.locator("h1 .badge")).to_have_text("Done")
    with page.expect_download() as download:
        page.get_by_role("link", name="Fetch output/output.txt").click()
    assert download.value.path().read_bytes() == b"written\n"
    published = docker_platform.completed(job, "Dockerfile")
    assert (published / "output" / "output.txt").read_bytes() == b"written\n"


@pytest.mark.thorough
def test_a_generator_is_stopped_run_again_and_deleted(
    sign_in: SignIn, gateway: Gateway, docker_platform: Platform
) -> None:
    page = sign_in("gina")
    page.goto(f"{gateway.url}/new/generate-data")
    expect(page.get_by_role("heading", name="generate-data")).to_be_visible()
    # In whole minutes, as the form has it.
    start = (datetime.now(UTC) + timedelta(seconds=75)).strftime("%Y-%m-%dT%H:%M")
    own = {"topic": "of-gina", "duration": "3600", "image": some_image(), "start": start}
    past = own | {"command": ["sh", "-c", GENERATOR], "memory": "64m", "start": "2026-01-31T08:00"}
    fill(page, past)
    page.get_by_role("button", name="Submit the job").click()
    expect(page.locator("[data-path=start] .error")).to_contain_text("is in the past")
    fill(page, {"start": start})
    badge = page.locator("h1 .badge")
    progress = page.locator(".now")
    jobs = list[UUID]()
    for again in (False, True):
        if again:
            page.get_by_role("button", name="Run again").click()
            page.wait_for_url(lambda url: not url.endswith(str(jobs[0])))
            jobs.append(UUID(page.url.rpartition("/")[2]))
        else:
            jobs.append(submitted(page))
        expect(badge).to_have_text("Running")
        expect(progress).to_contain_text("1 of 1 containers up")
        act(page, "Cancel", "Cancel it")
        expect(badge).to_have_text("Cancelled")
    for job in jobs:
        page.goto(f"{gateway.url}/jobs/{job}")
        act(page, "Delete", "Delete it")
        page.wait_for_url(f"{gateway.url}/")
    expect(page.get_by_text("You have no jobs yet.")).to_be_visible()
    for job in jobs:
        (segment,) = (docker_platform.results / "topics" / "of-gina").glob(f"{job}*.ndjson")
        lines = segment.read_text().splitlines()
        assert lines
        assert {json.loads(line)["n"] for line in lines} == {1}
