"""Every command and example of the README and docs/, run as written against a Prefecture."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml

from tasks.settings import Settings
from tests.integration.run_container.jobs import some_image
from tests.support.images import make_album
from tests.support.platform import BIN, Platform, ends_with_us, pause, wait_until
from tests.support.web.gateway import gateway_up

TREE = Path(__file__).resolve().parents[1]
_LONGEST = 840.0  # seconds, of all shell examples together on a busy machine
# In the order that a reader needs: a shell example may use what one before it has set.
PAGES = (
    "README.md",
    "docs/getting-started.md",
    "docs/concepts.md",
    "docs/tasks/README.md",
    "docs/tasks/images.md",
    "docs/tasks/find-primes.md",
    "docs/tasks/average-files.md",
    "docs/tasks/run-container.md",
    "docs/tasks/generate-data.md",
    "docs/guides/submit-jobs.md",
    "docs/guides/users.md",
    "docs/guides/files-over-http.md",
    "docs/guides/results.md",
    "docs/guides/results-in-s3.md",
    "docs/guides/notifications.md",
    "docs/reference/events.md",
    "docs/guides/troubleshooting.md",
    "docs/guides/run-history.md",
    "docs/guides/operations.md",
    "docs/guides/several-hosts.md",
    "docs/guides/performance.md",
    "docs/guides/add-a-task.md",
    "docs/reference/cli.md",
    "docs/reference/settings.md",
    "docs/reference/rest-api.md",
    "docs/reference/gateway-api.md",
    "docs/reference/python-api.md",
    "docs/reference/history-schema.md",
    "docs/reference/security.md",
)
TEXT = "\n".join((TREE / page).read_text() for page in PAGES)
# Its examples change a tree: tests/test_add_a_task.py runs them in one of its own.
ELSEWHERE_PAGE = "docs/guides/add-a-task.md"
EXAMPLES = "\n".join((TREE / page).read_text() for page in PAGES if page != ELSEWHERE_PAGE)
README_LINES = 150  # at most: the rest has a page in docs/
# These have tests of their own.
ELSEWHERE = ("make demo\n", "prefecture up\n")
# These do not end by themselves.
MORE_HOSTS = (
    *("prefecture work ", "prefecture supervise", "prefecture notify"),
    "prefecture platform\n",
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", EXAMPLES, re.DOTALL)


@pytest.fixture(scope="module")
def reader(docker_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to work in, and the photographs that the examples speak of."""
    photos = docker_platform.inputs / "photos"
    if not photos.exists():
        make_album(photos)
    return tmp_path_factory.mktemp("reader")


def run(platform: Platform, folder: Path, program: list[str], text: str, **more: str) -> str:
    """Run an example with the one thing changed that a test must: the port."""
    text = text.replace("127.0.0.1:4200", f"127.0.0.1:{platform.port}")
    environment: dict[str, Any] = platform.environment | more
    environment["PATH"] = f"{BIN}:{environment['PATH']}"
    done = subprocess.run(
        [*program, text],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_LONGEST,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def keeper(docker_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """The worker of the platform's own flows, which `up` does without in tests."""
    folder = tmp_path_factory.mktemp("keeper")
    with keep_running(docker_platform, folder, more_hosts()[-1]):
        wait_until(lambda: "started!" in (folder / "log").read_text(), what="it is there")
        yield


@pytest.mark.thorough
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("keeper")
def test_shell_examples(docker_platform: Platform, reader: Path) -> None:
    left_out = [block for block in blocks("sh") if block.endswith(ELSEWHERE)] + more_hosts()
    # Both stand in the README and in "Getting started", and `up` in "Results in S3" as well.
    assert len(left_out) == 2 * len(ELSEWHERE) + 1 + len(MORE_HOSTS)
    examples = "".join(block for block in blocks("sh") if block not in left_out)
    image = some_image()  # there may be no registry to pull another from
    program = ["bash", "-euo", "pipefail", "-c"]
    with gateway_up(docker_platform.home, docker_platform.api) as gateway:
        examples = examples.replace("http://127.0.0.1:4280", gateway.url)
        shown = run(docker_platform, reader, program, examples, BASE_IMAGE=image)
    assert "all checked" in shown
    assert (reader / "holiday-photos" / "manifest.json").is_file()
    assert (reader / "holiday-photos" / "a.jpg").is_file()
    assert (reader / "primes.parquet").read_bytes().startswith(b"PAR1")


def more_hosts() -> list[str]:
    """The blocks that do not end by themselves: a worker and what stands beside it."""
    return [block for part in MORE_HOSTS for block in blocks("sh") if part in block]


@contextmanager
def keep_running(platform: Platform, folder: Path, text: str) -> Generator[None]:
    """Run an example until the block ends, then stop it in order."""
    log = folder / "log"
    environment = platform.environment | {"PREFECT_API_URL": platform.api}
    environment["PATH"] = f"{BIN}:{environment['PATH']}"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ends_with_us("/bin/bash", "-euo", "pipefail", "-c", text),
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(240)


@pytest.mark.thorough
def test_more_hosts(docker_platform: Platform, tmp_path: Path) -> None:
    worker, supervisor, notifier, keeper = more_hosts()
    here = socket.gethostname()

    def shown(*first: str) -> str | None:
        """The line of the status that starts with these columns."""
        status = docker_platform.command("prefecture", "status").stdout
        rows = [line.split() for line in status.splitlines()]
        return next((" ".join(row) for row in rows if row[: len(first)] == [*first]), None)

    for name in ("worker", "supervisor", "notifier", "platform"):
        (tmp_path / name).mkdir()
    # A worker that has taken a job would wait for its end before its own.
    with (
        pause(docker_platform),
        keep_running(docker_platform, tmp_path / "worker", worker),
    ):
        wait_until(lambda: shown("docker", here, "ONLINE"), what="the worker is there")
        with keep_running(docker_platform, tmp_path / "supervisor", supervisor):
            agent = here, "docker", here
            wait_until(lambda: shown(*agent, "healthy"), what="its agent reports")
        assert shown(*agent) is None, "it has said good-bye"
    with keep_running(docker_platform, tmp_path / "notifier", notifier):
        log = tmp_path / "notifier" / "log"
        wait_until(lambda: "another" in log.read_text(), what="it waits for the one of `up`")
    with keep_running(docker_platform, tmp_path / "platform", keeper):
        log = tmp_path / "platform" / "log"
        wait_until(lambda: "started!" in log.read_text(), what="it is there")


@pytest.mark.usefixtures("keeper")
def test_sql_examples(docker_platform: Platform, reader: Path) -> None:
    examples = blocks("sql")
    assert len(examples) == 5
    shell = next(b for b in blocks("sh") if "aggregate-history" in b).splitlines()[0]
    run(docker_platform, reader, ["bash", "-c"], shell, PREFECT_API_URL=docker_platform.api)
    with closing(sqlite3.connect(docker_platform.home / "history.db")) as database:
        answers = [database.execute(example).fetchall() for example in examples]
    assert len(answers[1]) == 3, "a row for each queue"


def test_python_examples(docker_platform: Platform, reader: Path) -> None:
    said: list[str] = []
    for block in blocks("python"):
        program = [str(BIN / "python"), "-W", "error", "-c"]
        # As the reader has exported it in the shell.
        said.append(
            run(docker_platform, reader, program, block, PREFECT_API_URL=docker_platform.api)
        )
    first, wait, key, many, after, returned, block, events = said
    assert "/numbers/" in first
    assert wait.endswith("2 files\n")
    assert UUID(key.strip())
    assert many == "6 jobs\n"
    assert after.strip()
    assert "/numbers/" in returned
    assert block == ""
    lines = events.splitlines()
    assert all(re.fullmatch(r"prefecture\.job\.[a-z]+ [0-9a-f-]{36}", line) for line in lines)
    assert "prefecture.job.started" in events
    assert lines[-1].startswith("prefecture.job.completed ")


def test_the_table_lists_every_compute_task() -> None:
    readme = (TREE / "README.md").read_text()
    table = readme[readme.index("| compute task |") :].partition("\n\n")[0]
    listed = re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)
    declared = yaml.safe_load((TREE / "prefect.yaml").read_text())["deployments"]
    of_jobs = [entry for entry in declared if entry["work_pool"]["name"] != "platform"]
    flows = [Path(entry["entrypoint"].split(":")[0]).stem.replace("_", "-") for entry in of_jobs]
    # A task of somebody's own has an entry for one queue, and a row only where that is wanted.
    ours = {flow for flow in flows if flows.count(flow) > 1}
    assert len(listed) == len(set(listed))
    # What jobs start by themselves is nothing to ask for.
    assert ours - {"sum-files"} <= set(listed) <= set(flows) - {"sum-files"}


def test_every_command_is_documented() -> None:
    shown = subprocess.run(
        [str(BIN / "prefecture"), "--help"], capture_output=True, text=True, check=True
    ).stdout
    commands = re.findall(r"^│ ([a-z]+) ", shown, re.MULTILINE)
    known = {"up", "apply", "supervise", "status", "submit", "cancel", "results", "image", "demo"}
    assert known <= set(commands)
    for command in commands:
        assert f"`prefecture {command}" in TEXT


def test_every_setting_is_documented() -> None:
    for name, field in Settings.model_fields.items():
        alias = field.validation_alias
        variable = alias if isinstance(alias, str) else f"PREFECTURE_{name.upper()}"
        assert f"`{variable}`" in TEXT


def test_every_page_is_read() -> None:
    found = {path.relative_to(TREE).as_posix() for path in (TREE / "docs").rglob("*.md")}
    assert sorted(PAGES) == sorted({"README.md"} | found)


def test_readme_is_short() -> None:
    assert len((TREE / "README.md").read_text().splitlines()) <= README_LINES


def without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", without_code(page), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return set(found)


@pytest.mark.parametrize("name", [*PAGES, "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name: str) -> None:
    page = TREE / name
    links = re.findall(r"\]\(([^)\s]+)\)", without_code(page))
    for link in [link for link in links if not link.startswith("https://")]:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.is_relative_to(TREE), link
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
