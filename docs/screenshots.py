"""Make the pictures of the README from real jobs: `python docs/screenshots.py`.

`PREFECT_API_URL` and `PREFECTURE_HOME` name a Prefecture that `prefecture up` has started; Debian's
package chromium renders the pages. The jobs that it submits take about a minute.
"""

import os
import subprocess
import sys
from pathlib import Path

# Before docs/, which has a folder `tasks` too.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from playwright.sync_api import Page, sync_playwright

from deployments import Job, login_link, submit, submit_many
from deployments.connection import known_password, server_api
from deployments.gateway.users.tokens import Tokens
from deployments.local import programs
from tasks.settings import get_settings

_IMAGES = Path(__file__).parent / "images"
_FLAGS = [
    *("--no-sandbox", "--disable-gpu"),
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",  # nothing is fetched from outside
]
_BIN = Path(sys.executable).parent
_HISTORY = ("aggregate-history/every-minute", "report-usage/hourly")
_SHOW_DEFAULT_HOME = """home => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode())
        texts.currentNode.data = texts.currentNode.data.replaceAll(home, "~/.prefecture");
}"""
_USER = "anna"
_TIMEOUT = 120_000  # ms


def main() -> None:
    """Run jobs, and take screenshots of a job in both UIs, and of the usage report."""
    ui = os.environ["PREFECT_API_URL"].removesuffix("/api")
    job = _run_jobs()
    results = get_settings().results
    if not isinstance(results, Path):
        sys.exit(f"{results}: the report is read from a folder: unset PREFECTURE_RESULTS_ROOT")
    report = results / "reports" / "latest" / "report.html"
    _IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=_FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 920})
        page.set_default_timeout(_TIMEOUT)
        page.goto(login_link.make(ui, known_password()))
        page.get_by_role("link", name="Deployments", exact=True).wait_for()
        _draw_job(page, f"{ui}/v2/runs/flow-run/{job.id}")
        draw_page(page, job)
        page.goto(report.as_uri())
        page.screenshot(path=_IMAGES / "report.png")
        browser.close()


def _run_jobs() -> Job:
    """Run a job of pictures, and other jobs for the report. Returns the job of pictures."""
    subprocess.run([_BIN / "prefecture", "samples"], check=True)
    bounds = [{"upper_bound": 10**n} for n in range(3, 9)] * 4
    others = submit_many("find-primes", bounds, "primes", queue="low")
    photos = {"source": "photos", "ratio": 0.4}
    job = submit("compress-images", photos, "holiday", queue="high", tags=[f"user:{_USER}"])
    for one in (job, *others):
        one.wait()
    for deployment in _HISTORY:
        days = ("--param", "days=1") if deployment.startswith("report") else ()
        command = [_BIN / "prefect", "deployment", "run", deployment, *days, "--watch"]
        subprocess.run(command, check=True)
    return job


def _draw_job(page: Page, address: str) -> None:
    """Take a screenshot of the pictures that the job has published as an artifact."""
    page.goto(address)
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_role("link", name="markdown").click()
    page.get_by_role("tabpanel", name="Artifact").locator("img").first.wait_for()
    # Show the default home instead of the home on this machine.
    page.evaluate(_SHOW_DEFAULT_HOME, str(get_settings().home))
    page.screenshot(path=_IMAGES / "job.png")


def draw_page(page: Page, job: Job) -> None:
    """Take a screenshot of a job in the page of the gateway, as its user sees it."""
    settings = get_settings()
    gateway = programs.gateway_url(settings, server_api())
    page.goto(f"{gateway}/jobs/{job.id}")
    page.get_by_label("Your token").fill(Tokens(settings.home).add(_USER))
    page.get_by_role("button", name="Sign in").click()
    pictures = page.locator(".gallery img")
    pictures.last.wait_for()
    for picture in pictures.all():
        picture.evaluate("image => (image.loading = 'eager', image.decode())")
    page.screenshot(path=_IMAGES / "page.png")


if __name__ == "__main__":
    main()
