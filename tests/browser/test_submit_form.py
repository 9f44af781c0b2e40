"""A job from the form in the Prefect UI to its results, as a person would do it."""

import json
from collections.abc import Generator
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import docker
import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.pages import visit
from tests.integration.run_container.jobs import demo, real, some_image
from tests.support.platform import Platform, wait_until

GOOD = ["a.jpg", "b.jpg", "c.png", "d.webp", "sub/e.jpg"]
BROKEN = ["text.jpg", "truncated.jpg"]
PREVIEWS = 3
JOB = 120_000  # ms; a container on a busy machine


def open_form(page: Page, task: str = "compress-images") -> None:
    """From the start page to the form of the task's deployment in `normal`."""
    page.get_by_role("link", name="Deployments", exact=True).click()
    page.get_by_role("textbox", name="Search deployments").fill(task)
    # The search is part of the address, a moment later: a click before that would be undone.
    page.wait_for_url(f"**/deployments?*{task}*")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=task, exact=True))
    row.get_by_role("link", name="normal", exact=True).click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Custom run").click()
    expect(page.get_by_role("heading", name="Parameters")).to_be_visible()


def fill_form(page: Page, source: str, ratio: str, directory: str) -> None:
    page.get_by_label("Source", exact=True).fill(source)
    page.get_by_label("Ratio", exact=True).fill(ratio)
    page.get_by_label("Results directory", exact=True).fill(directory)


def submit(page: Page) -> str:
    """Press the button. Returns the name that the form has given the run."""
    name = page.get_by_label("Run Name").input_value()
    page.get_by_role("button", name="Submit").click()
    return name


def submit_accepted(page: Page) -> str:
    """Press the button until the server takes the run. Returns the run's name.

    Two writers at once may cost one of them a 503 on SQLite, which the form shows and does not
    try again: nothing is created, and a person presses again.
    """
    for _ in range(10):
        with page.expect_response("**/create_flow_run", timeout=JOB) as answer:
            name = submit(page)
        if answer.value.status != 503:
            assert answer.value.status == 201, answer.value.text()
            return name
    raise AssertionError("503, ten times")


def runs(platform: Platform, name: str) -> list[dict[str, Any]]:
    """The flow runs of that name."""
    return platform.rest(
        "POST", "/flow_runs/filter", {"flow_runs": {"name": {"any_": [name]}}}
    ).json()


def log(platform: Platform, run: str) -> str:
    """What the API has of a run's log."""
    wanted = {"logs": {"flow_run_id": {"any_": [run]}}}
    return platform.rest("POST", "/logs/filter", wanted).text


def assert_rendered(picture: Locator) -> None:
    """Chromium has decoded the picture, and it has a size."""
    width = picture.evaluate("async image => { await image.decode(); return image.naturalWidth }")
    assert width > 0


def test_from_the_form_to_the_pictures(
    docker_platform: Platform, page: Page, screenshots: Path
) -> None:
    open_form(page)
    fill_form(page, source="album", ratio="0.5", directory="from-the-ui")
    page.screenshot(path=screenshots / "1-form-filled.png")
    name = submit_accepted(page)

    # The notification and its link stay for a few seconds, which a busy machine may not see.
    [run] = runs(docker_platform, name)
    main = page.get_by_role("main")
    visit(page, f"{docker_platform.ui}/v2/runs/flow-run/{run['id']}", main.get_by_role("log"))
    expect(main.get_by_text("Completed", exact=True).first).to_be_visible(timeout=JOB)
    wait_until(lambda: "published 5 files" in log(docker_platform, run["id"]), what="the log")
    page.reload()  # Prefect's UI stops reading the log once the run has ended, last lines or not
    expect(main.get_by_role("log")).to_contain_text("published 5 files")
    page.screenshot(path=screenshots / "2-run-completed.png")

    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_role("link", name="markdown").click()
    artifact = page.get_by_role("tabpanel", name="Artifact")
    for name_of_file in GOOD:
        expect(artifact.get_by_role("cell", name=name_of_file, exact=True)).to_be_visible()
    for name_of_file in BROKEN:
        expect(artifact.get_by_role("listitem").filter(has_text=name_of_file)).to_be_visible()
    pictures = artifact.locator("img[src^='data:image/']")
    expect(pictures).to_have_count(PREVIEWS)
    for picture in pictures.all():
        assert_rendered(picture)
    page.screenshot(path=screenshots / "3-artifact.png", full_page=True)

    manifest = docker_platform.manifest(UUID(run["id"]), "from-the-ui")
    assert manifest["parameters"] == {
        "payload": {"source": "album", "ratio": 0.5, "metadata": "keep"},
        "results_directory": "from-the-ui",
    }
    assert sorted(file["path"] for file in manifest["files"]) == GOOD
    assert [entry["source"] for entry in manifest["summary"]["broken"]] == BROKEN
    folder = docker_platform.results / "from-the-ui" / run["id"]
    for name_of_file in GOOD:
        before = (docker_platform.inputs / "album" / name_of_file).stat().st_size
        assert (folder / name_of_file).stat().st_size <= 0.5 * before


@pytest.mark.thorough
def test_what_may_be_left_out_of_a_form_is(
    docker_platform: Platform, page: Page, screenshots: Path
) -> None:
    (docker_platform.inputs / "form").mkdir()
    np.save(docker_platform.inputs / "form" / "a.npy", np.ones(3))
    open_form(page, "average-files")
    page.get_by_label("Source (Optional)", exact=True).fill("form")
    page.get_by_label("Results directory", exact=True).fill("from-the-form")
    page.screenshot(path=screenshots / "5-averages.png", full_page=True)
    [run] = runs(docker_platform, submit_accepted(page))
    assert run["parameters"]["payload"] == {
        "source": "form",
        "also": [],
        "not_finite": "refuse",
        "workers": 1,
        "keep_sums": False,
    }
    docker_platform.completed(UUID(run["id"]), "from-the-form")


def test_the_form_refuses_a_ratio_over_the_maximum(
    docker_platform: Platform, page: Page, screenshots: Path
) -> None:
    open_form(page)
    fill_form(page, source="album", ratio="1.5", directory="refused-by-the-form")
    name = submit(page)
    ratio = page.get_by_label("Ratio", exact=True)
    expect(ratio).to_be_focused()
    # A bubble of Chromium's own, which is no part of the page: only the screenshot shows it.
    assert ratio.evaluate("field => field.validationMessage") == (
        "Value must be less than or equal to 1."
    )
    page.screenshot(path=screenshots / "4-ratio-over-the-maximum.png")
    expect(page.get_by_role("button", name="Submit")).to_be_visible()
    assert runs(docker_platform, name) == []


# A form knows no exclusive minimum, so that 0 is refused by the server and explained at the field.
@pytest.mark.thorough
@pytest.mark.parametrize(
    ("ratio", "directory", "message"),
    [
        ("0", "refused", "0 is less than or equal to the minimum of 0"),
        ("0.5", "../elsewhere", "'a name such as holiday or trips/2026"),
    ],
    ids=["ratio", "directory"],
)
def test_what_the_server_refuses_is_explained_in_the_form(
    docker_platform: Platform, page: Page, ratio: str, directory: str, message: str
) -> None:
    open_form(page)
    fill_form(page, source="album", ratio=ratio, directory=directory)
    with page.expect_response("**/create_flow_run") as refused:
        name = submit(page)
    assert refused.value.status == 409
    expect(page.get_by_role("paragraph").filter(has_text=message)).to_be_visible()
    expect(page.get_by_role("region", name="Notifications")).to_contain_text(message)
    assert runs(docker_platform, name) == []


@pytest.fixture
def image_that_runs() -> Generator[str]:
    """The name of an image with a command of its own."""
    name = f"prefecture-form:{uuid4().hex[:8]}"
    text = f'FROM {some_image()}\nCMD ["sleep", "1"]\n'
    client = docker.from_env()
    try:
        client.images.build(fileobj=BytesIO(text.encode()), tag=name, rm=True)
        yield name
        client.images.remove(name, force=True)
    finally:
        client.close()


@pytest.mark.parametrize("task", ["run-container", "generate-data"])
def test_an_image_and_no_build(
    docker_platform: Platform, page: Page, task: str, image_that_runs: str
) -> None:
    """Only what is needed is filled in; the form sends a build of blank fields."""
    open_form(page, task)
    page.get_by_label("Image (Optional)", exact=True).fill(image_that_runs)
    page.get_by_label("Results directory", exact=True).fill("from-an-image")
    if task == "generate-data":
        page.get_by_label("Topic", exact=True).fill("from-a-form")
        page.get_by_label("Duration", exact=True).fill("1")
    [run] = runs(docker_platform, submit_accepted(page))
    assert run["parameters"]["payload"]["image"] == image_that_runs
    assert run["parameters"]["payload"]["build"] == {}, "the form sends it"
    docker_platform.completed(UUID(run["id"]), "from-an-image")


@pytest.mark.thorough
def test_a_container_with_nothing_uploaded(
    docker_platform: Platform, page: Page, screenshots: Path
) -> None:
    """A Dockerfile and the script it copies, typed into the form, to what the script writes."""
    build = real(demo("sleep 1"))["build"]
    open_form(page, "run-container")
    page.get_by_label("Dockerfile (Optional)", exact=True).fill(build["dockerfile"])
    page.get_by_role("textbox").and_(page.locator(".cm-content")).first.click()
    page.keyboard.insert_text(json.dumps(build["files"]))
    page.get_by_label("Results directory", exact=True).fill("containers-from-the-ui")
    page.screenshot(path=screenshots / "6-container.png", full_page=True)
    [run] = runs(docker_platform, submit_accepted(page))
    folder = docker_platform.completed(UUID(run["id"]), "containers-from-the-ui")
    assert (folder / "output" / "output.txt").read_text() == "written\n"
    log_shown = page.get_by_role("main").get_by_role("log")
    visit(page, f"{docker_platform.ui}/v2/runs/flow-run/{run['id']}", log_shown)
    expect(log_shown).to_contain_text("started")
    page.screenshot(path=screenshots / "7-container-completed.png")
