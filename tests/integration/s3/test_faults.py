"""S3 that fails for a while, for jobs on the process pool and uploads through a gateway."""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.support.faults import FaultyStorage, faulty_storage
from tests.support.images import make_album
from tests.support.platform import FINAL, Platform, platform_up, wait_until
from tests.support.storage import client_of, moto_server, save_aws_block
from tests.support.web.gateway import Gateway, gateway_up
from tests.support.web.laptop import laptop_of

pytestmark = pytest.mark.thorough

LIST = "GET /photos?"
UPLOADS = {
    "PREFECTURE_UPLOADS_ROOT": "s3://photos/team",
    "PREFECTURE_S3_CREDENTIALS": "aws-credentials/photos",
}


@dataclass
class Faulty:
    """A Prefecture, and the storage it reads from."""

    platform: Platform
    storage: FaultyStorage

    def ended(self, source: str, directory: str) -> tuple[UUID, dict[str, Any]]:
        """A job that reads `source`, and its flow run once it has ended."""
        payload = {"source": source, "format": "webp"}
        job = self.platform.submit_job("convert-images/high", payload, directory)
        return job, self.platform.ended(job)

    def task_runs(self, job: UUID) -> list[dict[str, Any]]:
        """The task runs of a job that the server knows; it learns of them by events, later."""
        filter = {"task_runs": {"flow_run_id": {"any_": [str(job)]}}}
        return self.platform.rest("POST", "/task_runs/filter", filter).json()

    def ended_task_runs(self, job: UUID, expected: int) -> list[dict[str, Any]]:
        """The task runs of a job once as many as expected have ended."""

        def all_ended() -> bool:
            runs = self.task_runs(job)
            ended = [run for run in runs if run["state_type"] in FINAL]
            return len(ended) == len(runs) >= expected

        wait_until(all_ended, what=f"{expected} task runs of {job} ended")
        runs = self.task_runs(job)
        assert len(runs) == expected
        return runs

    def kept(self) -> set[Path]:
        """What Prefect keeps of jobs."""
        folder = self.platform.results / ".prefect"
        return {*folder.iterdir()} if folder.exists() else set()

    def log(self, job: UUID) -> str:
        """What a job has logged."""
        filter = {"logs": {"flow_run_id": {"any_": [str(job)]}}}
        return "\n".join(
            line["message"] for line in self.platform.rest("POST", "/logs/filter", filter).json()
        )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Generator[Faulty]:
    home = tmp_path_factory.mktemp("faults")
    make_album(home / "inputs" / "trip")
    settings = {"PREFECTURE_S3_CREDENTIALS": "aws-credentials/photos"}
    with (
        moto_server() as address,
        faulty_storage(address) as storage,
        platform_up(home, "process", settings=settings) as platform,
    ):
        fill(address, home / "inputs" / "trip")
        # Who makes the block may know a silence better than our own 20 s.
        save_aws_block(platform, "photos", storage.address, read_timeout=1)
        yield Faulty(platform, storage)


def fill(address: str, folder: Path) -> None:
    client = client_of(address)
    client.create_bucket(Bucket="photos")
    for name in ("a.jpg", "b.jpg", "sub/e.jpg"):
        client.upload_file(str(folder / name), "photos", f"trip/{name}")
    client.close()


@pytest.fixture
def faulty(running: Faulty) -> Faulty:
    running.storage.reset()
    return running


def test_a_job_outlasts_storage_that_fails_for_a_while(faulty: Faulty) -> None:
    storage = faulty.storage
    # Of three faults two meet the client's own two tries, and the third the step's second try.
    storage.fail(LIST, "busy", times=3)
    storage.fail("GET /photos/trip/a.jpg", "cut", times=3)
    storage.fail("HEAD /photos/trip/b.jpg", "silent", times=2)
    storage.fail("HEAD /photos/trip/sub/e.jpg", "dropped", times=3)
    kept = faulty.kept()

    job, run = faulty.ended("s3://photos/trip/", "faulty")
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    files = faulty.platform.manifest(job, "faulty")["files"]
    assert [file["path"] for file in files] == ["a.webp", "b.webp", "sub/e.webp"]

    assert storage.count(LIST) == 4
    assert storage.count("GET /photos/trip/a.jpg") == 4
    # A fetch asks for the size, then for the bytes: what is done is not done again.
    assert storage.count("GET /photos/trip/b.jpg") == 1
    assert storage.count("GET /photos/trip/sub/e.jpg") == 1
    runs = faulty.ended_task_runs(job, expected=4)
    assert sorted((run["name"], run["run_count"]) for run in runs) == [
        ("fetch a.jpg", 2),
        ("fetch b.jpg", 2),
        ("fetch sub/e.jpg", 2),
        ("list s3://photos/trip/", 2),
    ]
    assert "Traceback" not in faulty.log(job)
    # What Prefect keeps is the flow's receipt, in JSON: nothing of the steps.
    assert len(faulty.kept() - kept) == 1


@pytest.mark.parametrize(
    ("fault", "source", "message"),
    [
        (None, "s3://photos/nothing/", "names no object"),
        (None, "s3://nowhere/trip/", "NoSuchBucket"),
        ("refused", "s3://photos/trip/", "403"),
    ],
)
def test_what_stays_wrong_is_reported_at_once(
    faulty: Faulty, fault: Any, source: str, message: str
) -> None:
    if fault:
        faulty.storage.fail(LIST, fault, times=100)
    job, run = faulty.ended(source, "wrong")
    assert run["state_name"] == "Failed"
    assert message in run["state"]["message"]
    assert "\n" not in run["state"]["message"]
    assert len(faulty.storage.asked) == 1
    (listing,) = faulty.ended_task_runs(job, expected=1)
    assert listing["run_count"] == 1
    assert "Traceback" not in faulty.log(job)


def test_local_files_cost_no_task_run(faulty: Faulty) -> None:
    local, run = faulty.ended("trip", "local")
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    assert faulty.storage.asked == []
    # Once the server knows the steps of a later job, it knows those of the earlier.
    later, _ = faulty.ended("s3://photos/trip/a.jpg", "local")
    faulty.ended_task_runs(later, expected=2)
    assert faulty.task_runs(local) == []


def shows_pictures_before_and_after(
    gateway: Gateway, anna: httpx.Client, platform: Platform
) -> None:
    """What the page shows of a job whose source is in S3."""
    given = (platform.inputs / "trip" / "a.jpg").read_bytes()
    assert anna.put("/inputs/trip/a.jpg", content=given).status_code == 201
    request = {"task": "compress-images", "results_directory": "smaller"}
    payload = {"source": "s3://photos/team/users/anna/trip", "ratio": 0.5}
    job = UUID(anna.post("/jobs", json=request | {"payload": payload}).json()["job"])
    folder = platform.completed(job, "smaller")
    pictures = f"/jobs/{job}/pictures"
    (pair,) = anna.get(pictures).json()
    assert (pair["before"], pair["after"], pair["bytes_before"]) == ("a.jpg", "a.jpg", len(given))
    before, after = (anna.get(f"{pictures}/{side}/a.jpg") for side in ("before", "after"))
    assert before.content == given
    assert after.content == (folder / "a.jpg").read_bytes()
    for header in ("content-type", "content-security-policy", "x-content-type-options"):
        assert before.headers[header] == after.headers[header]
    with gateway.user("bob") as bob:
        assert bob.get(f"{pictures}/before/a.jpg").status_code == 404
    assert anna.delete("/inputs/trip").is_success
    assert anna.get(f"{pictures}/before/a.jpg").status_code == 404
    (pair,) = anna.get(pictures).json()
    assert (pair["before"], pair["after"]) == (None, "a.jpg")


def test_uploads_through_a_gateway_are_in_s3(faulty: Faulty, tmp_path: Path) -> None:
    platform, storage = faulty.platform, faulty.storage
    up = partial(gateway_up, platform.home, platform.api, **UPLOADS)
    numbers = {"task": "average-files", "results_directory": "uploaded"}
    late = "PUT /photos/team/users/anna/numbers/late.csv"
    with up() as gateway, gateway.user("anna") as anna:
        for name in ("a.csv", "b.csv"):
            done = anna.put(f"/inputs/numbers/{name}", content=b"1\n2\n")
            assert done.status_code == 201, done.text
            assert done.json()["source"] == f"s3://photos/team/users/anna/numbers/{name}"
        assert anna.put("/inputs/numbers/a.csv", content=b"3\n").status_code == 409

        storage.fail(late, "busy", times=100)
        away = anna.put("/inputs/numbers/late.csv", content=b"5\n6\n")
        assert (away.status_code, away.headers["retry-after"]) == (503, "5")
        with ThreadPoolExecutor(1) as threads:
            before = storage.count(late)
            lost = threads.submit(anna.put, "/inputs/numbers/late.csv", content=b"5\n6\n")
            wait_until(lambda: storage.count(late) > before, what="the last byte has arrived")
            gateway.process.kill()
            with pytest.raises(httpx.HTTPError):
                lost.result()
    storage.reset()
    with up() as gateway, gateway.user("anna") as anna:
        arrived = anna.head("/inputs/numbers/late.csv").headers["upload-offset"]
        assert arrived == "4"
        rest = anna.put("/inputs/numbers/late.csv", content=b"", headers={"Upload-Offset": arrived})
        assert rest.status_code == 201, rest.text
        assert [each["path"] for each in anna.get("/inputs").json()] == [
            *("numbers/a.csv", "numbers/b.csv", "numbers/late.csv")
        ]

        source = "s3://photos/team/users/anna/numbers"
        with gateway.user("bob") as bob:
            for spelling in (source, "s3://photos/team//users/anna", "s3://photos/team/**"):
                refused = bob.post("/jobs", json=numbers | {"payload": {"source": spelling}})
                assert refused.status_code == 403, spelling
        answer = anna.post("/jobs", json=numbers | {"payload": {"source": source}})
        platform.completed(UUID(answer.json()["job"]), "uploaded")

        shows_pictures_before_and_after(gateway, anna, platform)

        laptop = laptop_of(gateway, tmp_path / "anna", "anna")
        (laptop.folder / "more").mkdir()
        for number in range(3):
            (laptop.folder / "more" / f"{number}.csv").write_text("7\n")
        submitted = laptop.run("submit", "average-files", '{"source": "more"}', "uploaded")
        assert "3 files, 6 bytes: s3://photos/team/users/anna/uploaded/more-" in submitted.stderr
        platform.completed(UUID(submitted.stdout.strip()), "uploaded")
        assert anna.delete("/inputs/numbers").is_success
        assert anna.delete("/inputs/numbers").status_code == 404
    assert not list((platform.inputs / "users" / "anna" / ".uploads").iterdir())
