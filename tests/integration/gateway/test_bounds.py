"""Bounds that an operator sets: bytes and age of results, old uploads, large bulks."""

import asyncio
import os
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx
import pytest

from deployments.connection import connect
from deployments.gateway.old_uploads import UploadsExpiry
from deployments.gateway.uploads.records import PARTS
from deployments.retention.results import Chosen, Expiry
from tasks.contracts import PublishedFile
from tasks.settings import get_settings
from tests.support.platform import Platform, wait_until
from tests.support.web.gateway import Gateway, gateway_up
from tests.tasks.storage.results.attempts import claim

PRIMES = {"task": "find-primes", "payload": {"upper_bound": 100}, "results_directory": "expiring"}
BULK = {name: PRIMES[name] for name in ("task", "results_directory")} | {
    "payloads": [{"upper_bound": 9}]
}


@pytest.fixture(scope="module")
def gateway(process_platform: Platform) -> Generator[Gateway]:
    settings = {"PREFECTURE_GATEWAY_RESULTS": "10000000", "PREFECTURE_BULK_TO_LOW": "2"}
    with gateway_up(process_platform.home, process_platform.api, **settings) as gateway:
        yield gateway


def test_results_count_when_a_job_is_submitted(gateway: Gateway, here: Platform) -> None:
    job = uuid4()
    folder = here.results / "expiring" / str(job)
    folder.mkdir(parents=True)
    large = PublishedFile(path="large", bytes=10_000_000, sha256="0" * 64)
    manifest = claim(job, 1, [large]).model_copy(update={"user": "xena"})
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    with gateway.user("xena") as xena, gateway.user("yuri") as yuri:
        wrong = PRIMES | {"payload": {"upper_bound": -1}}  # so that none is submitted before

        def refused() -> httpx.Response | None:
            answer = xena.post("/jobs", json=wrong)
            return None if answer.status_code == 422 else answer

        full = wait_until(refused, what="results are counted again after some seconds", every=1)
        assert full.status_code == 507
        assert full.json()["detail"].startswith("the results of user 'xena' have 10.0 MB, and")
        assert xena.post("/jobs/bulk", json=BULK).status_code == 507
        jobs = yuri.post("/jobs/bulk", json=BULK).json()["jobs"]
        done = UUID(jobs[0])
        here.completed(done, "expiring")
        assert xena.delete(f"/jobs/{done}/result").status_code == 404
        assert yuri.delete(f"/jobs/{done}/result").is_success
        assert "it was deleted: run" in yuri.get(f"/jobs/{done}/result").json()["detail"]
        assert yuri.delete(f"/jobs/{done}/result").status_code == 410
        assert yuri.get(f"/jobs/{done}").json()["job"]["state"] == "completed"


async def look(at: datetime, *, remove: bool) -> Chosen:
    """What has expired at a time, removed where it is to be."""
    async with connect() as client:
        expiry = Expiry(client, get_settings())
        chosen = await expiry.chosen(now=at)
        if remove:
            assert (await expiry.remove(chosen)).busy == 0
        return chosen


def test_a_result_expires_when_its_job_says_so(gateway: Gateway, here: Platform) -> None:
    with gateway.user("vera") as vera:
        assert vera.post("/jobs", json=PRIMES | {"expires": 59}).status_code == 422
        job = UUID(vera.post("/jobs", json=PRIMES | {"expires": 86_400}).json()["job"])
        here.completed(job, "expiring")
        assert vera.get(f"/jobs/{job}/request").json()["expires"] == 86_400
        manifest = vera.get(f"/jobs/{job}/result").json()
        assert manifest["user"] == "vera"
        expires = datetime.fromisoformat(manifest["expires"])
        assert expires - datetime.fromisoformat(manifest["published"]) == timedelta(days=1)
        assert asyncio.run(look(datetime.now(UTC), remove=False)) == []
        ((result, _),) = asyncio.run(look(expires, remove=True))
        assert result.job == job
        for path in ("result", "result.zip", f"result/{manifest['files'][0]['path']}"):
            gone = vera.get(f"/jobs/{job}/{path}")
            assert gone.status_code == 410, gone.text
            assert "its job had asked to keep it no longer: run" in gone.json()["detail"]
    shown = here.command("prefecture", "results", str(job))
    assert (shown.returncode, shown.stderr.count("\n")) == (1, 1)
    assert "was removed at" in shown.stderr


def test_old_uploads_are_removed_unless_they_are_named(gateway: Gateway, here: Platform) -> None:
    with gateway.user("wim") as wim:
        for path in ("kept/a.csv", "old/b.csv", "again/c.csv", "new.csv"):
            assert wim.put(f"/inputs/{path}", content=b"1\n").is_success
        later = datetime.now(UTC) + timedelta(hours=1)
        waits = here.create(
            "average-files/low",
            parameters={"payload": {"source": "users/wim/kept"}, "results_directory": "expiring"},
            state={"type": "SCHEDULED", "state_details": {"scheduled_time": later.isoformat()}},
        ).json()
        again = {"task": "average-files", "payload": {"source": "users/wim/again/*.csv"}}
        again |= {"results_directory": "expiring", "cron": "0 0 1 1 *"}
        assert wim.post("/schedules", json=again).is_success
        place = here.inputs / "users" / "wim"
        month = (datetime.now(UTC) - timedelta(days=30)).timestamp()
        for path in ("kept/a.csv", "old/b.csv", "again/c.csv"):
            os.utime(place / path, (month, month))
        words = ("prefecture", "clean", "inputs", "--older", "2w", "--user", "wim")
        shown = here.command(*words, "--dry-run")
        assert "users/wim/old/b.csv" in shown.stdout
        assert "1 file, 2 bytes: nothing is removed" in shown.stdout
        left = ["new.csv", "again/c.csv", "kept/a.csv"]
        done = here.command(*words, "--yes")
        assert "1 file removed" in done.stdout, done.stderr
        assert [each["path"] for each in wim.get("/inputs").json()] == left
        assert wim.put("/inputs/old.csv", content=b"1\n").is_success
        parts = place / PARTS
        (parts / "unfinished").touch()
        for path in (place / "old.csv", parts / "unfinished"):
            os.utime(path, (month, month))
        asyncio.run(remove_by_itself())
        assert [each["path"] for each in wim.get("/inputs").json()] == left
        assert [*parts.iterdir()] == []
        here.rest("DELETE", f"/flow_runs/{waits['id']}")


async def remove_by_itself() -> None:
    """Remove old uploads as the notifier does."""
    settings = get_settings().model_copy(update={"inputs_days": 14})
    async with connect() as client:
        await UploadsExpiry(client, settings).look()


def test_a_large_bulk_goes_to_low_unless_a_queue_is_named(gateway: Gateway) -> None:
    with gateway.user("zoe") as zoe:

        def queues(many: int, **more: str) -> set[str]:
            body = BULK | {"payloads": [{"upper_bound": 9}] * many} | more
            jobs = zoe.post("/jobs/bulk", json=body).json()["jobs"]
            return {zoe.get(f"/jobs/{job}").json()["job"]["queue"] for job in jobs}

        assert queues(2) == {"normal"}
        assert queues(3) == {"low"}
        assert queues(3, queue="normal") == {"normal"}
