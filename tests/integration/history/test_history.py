"""The history kept by its own flows, on the platform's own pool, beside jobs that run."""

import json
import os
import sqlite3
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from tasks.history.database import open_history
from tasks.history.extract import Extract
from tasks.history.rows import RowReader
from tasks.history.update import update_history
from tasks.settings import Settings
from tasks.storage.results.local import LocalRoot
from tests.support.platform import Platform, pause, platform_up, wait_until

pytestmark = pytest.mark.thorough

AGGREGATE, REPORT = "aggregate-history/platform", "report-usage/platform"


def run_now(platform: Platform, deployment: str, **parameters: Any) -> dict[str, Any]:
    """Have a flow of the platform's run, and wait for its end."""
    response = platform.create(deployment, parameters=parameters)
    assert response.status_code == 201, response.text
    return platform.ended(response.json()["id"])


def stats(platform: Platform, *words: str) -> dict[str, Any]:
    done = platform.command("prefecture", "stats", "--json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Generator[Platform]:
    """A running Prefecture that keeps its history: no other test wants to pay for that."""
    settings = {"PREFECTURE_ANALYTICS": "true"}
    with platform_up(tmp_path_factory.mktemp("keeping"), "process", settings=settings) as platform:
        yield platform


@pytest.fixture(scope="module")
def kept(keeping: Platform) -> Generator[tuple[Platform, list[UUID]]]:
    """A job that completes, one that fails, one that is cancelled before it starts, and a pass."""
    completes = keeping.submit_job("find-primes/high", {"upper_bound": 1000}, "history")
    fails = keeping.submit_job(
        "convert-images/low", {"source": "nothere", "format": "png"}, "history"
    )
    with pause(keeping):
        cancelled = keeping.submit_job("find-primes/low", {"upper_bound": 10}, "history")
        done = keeping.command("prefecture", "cancel", str(cancelled))
        assert done.returncode == 0, done.stderr
    jobs = [completes, fails, cancelled]
    assert [keeping.ended(job)["state_type"] for job in jobs] == [
        *("COMPLETED", "FAILED", "CANCELLED")
    ]
    run = run_now(keeping, AGGREGATE)
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    yield keeping, jobs


def test_what_became_of_them(kept: tuple[Platform, list[UUID]]) -> None:
    platform, jobs = kept
    with sqlite3.connect(platform.home / "history.db") as database:
        found = {
            row[0]: row[1:]
            for row in database.execute("SELECT job, outcome, queue, starts, waited, ran FROM job")
        }
        published = dict(database.execute("SELECT job, published_bytes FROM attempt"))
    database.close()
    completes, fails, cancelled = map(str, jobs)
    assert found[completes][:3] == ("completed", "high", 1)
    assert found[fails][:3] == ("failed", "low", 1)
    assert found[cancelled] == ("cancelled", "low", 0, None, 0.0)
    assert found[completes][4] > 0
    files = platform.manifest(jobs[0], "history")["files"]
    assert published[completes] == sum(file["bytes"] for file in files)
    assert published[fails] is None


def test_stats(kept: tuple[Platform, list[UUID]]) -> None:
    platform, _ = kept
    (row,) = stats(platform, "--since", "2h", "--task", "convert-images", "--queue", "low")[
        "throughput"
    ]
    assert (row["task"], row["queue"]) == ("convert-images", "low")
    assert row["failed"] >= 1
    assert [row["queue"] for row in stats(platform)["backlog"]] == ["high", "normal", "low"]
    shown = platform.command("prefecture", "stats", "--since", "2020-01-01").stdout
    assert "Since 2020-01-01 00:00 UTC" in shown
    assert "Starts of a job" in shown
    refused = platform.command("prefecture", "stats", "--since", "yesterday")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "--since 'yesterday': use a span" in refused.stderr


def test_report(kept: tuple[Platform, list[UUID]]) -> None:
    platform, _ = kept
    newest = platform.results / "reports" / "latest"
    for _ in range(2):
        run = run_now(platform, REPORT, days=3)
        assert run["state_type"] == "COMPLETED", run
        assert newest.resolve().name == run["id"]
        assert [path.name for path in newest.parent.glob("*-*")] == [run["id"]], "old ones are gone"
        manifest = newest / "manifest.json"
        published = json.loads(manifest.read_text()) | {"published": "2020-01-01T00:00:00Z"}
        manifest.write_text(json.dumps(published))
        os.utime(manifest, (0, 0))
    html = (newest / "report.html").read_text()
    assert html.count("<svg") >= 5
    assert "://" not in html.replace("http://www.w3.org/", ""), "it asks for nothing"
    wanted = {"artifacts": {"key": {"like_": "usage-"}}, "limit": 200}
    found = platform.rest("POST", "/artifacts/filter", wanted).json()
    keys = [artifact["key"] for artifact in found]
    assert "usage-throughput" in keys
    assert len(keys) == len(set(keys)), "of earlier reports nothing is left"
    refused = platform.create(REPORT, parameters={"days": 0})
    assert refused.status_code == 409
    assert "days" in refused.text


def test_it_runs_by_itself_and_no_job_is_one_of_its_runs(
    kept: tuple[Platform, list[UUID]],
) -> None:
    platform, _ = kept
    wanted = {
        "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        "deployments": {"id": {"any_": [platform.deployment(AGGREGATE)]}},
    }
    wait_until(lambda: platform.rest("POST", "/flow_runs/filter", wanted).json(), what="scheduled")
    with sqlite3.connect(platform.home / "history.db") as database:
        pools = {pool for (pool,) in database.execute("SELECT DISTINCT pool FROM attempt")}
    database.close()
    assert pools == {"process"}
    status = platform.command("prefecture", "status").stdout
    assert [line.split()[0] for line in status.splitlines() if "-platform" in line] == ["platform"]


def test_a_database_out_of_reach_fails_the_pass_and_nothing_else(
    kept: tuple[Platform, list[UUID]],
) -> None:
    platform, _ = kept
    history = platform.home / "history.db"
    aside = platform.home / "aside.db"
    with pause_platform(platform):
        for suffix in ("-wal", "-shm"):
            history.with_name(history.name + suffix).unlink(missing_ok=True)
        history.rename(aside)
        history.write_bytes(b"this is no database, and it is long enough to be read as one" * 100)
    run = run_now(platform, AGGREGATE)
    job = platform.submit_job("find-primes/normal", {"upper_bound": 10}, "history")
    assert run["state_type"] == "FAILED"
    assert "is corrupt (file is not a database): move the file away" in run["state"]["message"]
    assert "\n" not in run["state"]["message"]
    assert platform.ended(job)["state_type"] == "COMPLETED"
    with pause_platform(platform):
        aside.replace(history)
    assert run_now(platform, AGGREGATE)["state_type"] == "COMPLETED"
    with sqlite3.connect(history) as database:
        outcome = database.execute("SELECT outcome FROM job WHERE job = ?", [str(job)]).fetchone()
    database.close()
    assert outcome == ("completed",), "the next pass has caught up"


@asynccontextmanager
async def reading(
    platform: Platform, folder: Path
) -> AsyncGenerator[tuple[PrefectClient, Settings]]:
    """A client, and settings that name a history of the test's own."""
    url = SecretStr(f"sqlite:///{folder}/history.db")
    settings = Settings(home=platform.home, results_root=platform.results, history_url=url)
    with temporary_settings({PREFECT_API_URL: platform.api}):
        async with get_client() as client:
            yield client, settings


def table(folder: Path, name: str, left_out: str = "") -> list[dict[str, Any]]:
    """Every row of a table, but for a column that is not to be compared."""
    with closing(sqlite3.connect(folder / "history.db")) as database:
        database.row_factory = sqlite3.Row
        rows = [dict(row) for row in database.execute(f"SELECT * FROM {name} ORDER BY 1, 2, 3, 4")]
    return [{key: row[key] for key in row if key != left_out} for row in rows]


async def test_page_by_page_is_the_same_as_at_once(
    kept: tuple[Platform, list[UUID]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform, _ = kept
    for name in ("at once", "page by page"):
        (tmp_path / name).mkdir()
        async with reading(platform, tmp_path / name) as (client, settings):
            assert (await update_history(client, settings)).all
        # Of less than what has ended just now, which is where slices have to become short.
        monkeypatch.setattr("tasks.history.extract.PAGE", 2)
    at_once, by_page = (tmp_path / name for name in ("at once", "page by page"))
    assert table(at_once, "attempt", "checked") == table(by_page, "attempt", "checked")
    assert table(at_once, "throughput") == table(by_page, "throughput")
    assert len(table(at_once, "attempt")) > 2


async def test_no_time_left_and_no_end(kept: tuple[Platform, list[UUID]], tmp_path: Path) -> None:
    platform, _ = kept
    async with reading(platform, tmp_path) as (client, settings):
        with open_history(settings) as history:
            history.migrate()
            reader = RowReader(client, LocalRoot(platform.results))
            assert not (await Extract(client, history, reader, -1.0).run()).all
        assert (await update_history(client, settings)).all


async def test_deleted_before_its_end(kept: tuple[Platform, list[UUID]], tmp_path: Path) -> None:
    platform, _ = kept
    with pause(platform):
        job = platform.submit_job("find-primes/low", {"upper_bound": 10}, "history")
        async with reading(platform, tmp_path) as (client, settings):
            await update_history(client, settings)
            (row,) = [row for row in table(tmp_path, "attempt") if row["job"] == str(job)]
            assert row["state"] == "SCHEDULED"
            pending = {row["queue"]: row["pending"] for row in table(tmp_path, "backlog")}
            assert pending == {"high": 0, "normal": 0, "low": 1}
            platform.rest("DELETE", f"/flow_runs/{job}").raise_for_status()
            assert (await update_history(client, settings)).deleted == 1
    (row,) = [row for row in table(tmp_path, "job") if row["job"] == str(job)]
    assert row["outcome"] == "deleted"


def pause_platform(platform: Platform) -> Any:
    """While the block runs, no pass begins; and none is at work."""
    other = Platform("platform", platform.home, platform.port, platform.process, {})
    wanted = {
        "flow_runs": {"state": {"type": {"any_": ["PENDING", "RUNNING"]}}},
        "work_pools": {"name": {"any_": ["platform"]}},
    }
    block = pause(other)
    wait_until(
        lambda: not platform.rest("POST", "/flow_runs/filter", wanted).json(), what="no pass"
    )
    return block
