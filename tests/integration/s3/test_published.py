"""Results in S3 end to end: jobs in real containers, a real S3 server beside them."""

import json
import socket
import subprocess
import urllib.request
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import docker
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_aws.client_parameters import AwsClientParameters
from prefect_aws.credentials import MinIOCredentials
from pydantic import SecretStr

from tests.support.containers import kill_container
from tests.support.faults import FaultyStorage, faulty_storage
from tests.support.images import make_album
from tests.support.platform import Platform, platform_up, wait_until
from tests.support.storage import KEYS, client_of, rclone_server, save_aws_block

pytestmark = pytest.mark.thorough

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

BUCKET, PREFIX = "results", "team/a"
SETTINGS = {
    "PREFECTURE_RESULTS_ROOT": f"s3://{BUCKET}/{PREFIX}",
    "PREFECTURE_S3_CREDENTIALS": "minio-credentials/store",
}


@dataclass
class Published:
    """A Prefecture that publishes in S3."""

    platform: Platform
    client: "S3Client"
    faults: FaultyStorage
    """What jobs and the supervisor reach the S3 server through."""
    data: Path
    """What the S3 server keeps, as files."""

    @property
    def scratch(self) -> Path:
        """Where attempts work on this host."""
        return self.platform.home / "scratch" / ".staging"

    def keys(self, prefix: str) -> list[str]:
        """The objects below a prefix of the root, relative to it."""
        top = self.data / BUCKET / PREFIX / prefix
        return sorted(p.relative_to(top).as_posix() for p in top.rglob("*") if p.is_file())

    def manifest(self, directory: str, job: UUID) -> dict[str, Any]:
        """The manifest of a job."""
        key = f"{PREFIX}/{directory}/{job}/manifest.json"
        return json.loads(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())


def intake_is_paused(platform: Platform) -> bool:
    return platform.rest("GET", f"/work_pools/{platform.pool}").json()["is_paused"]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Generator[Published]:
    home = tmp_path_factory.mktemp("published")
    data = home / "store"
    make_album(home / "inputs" / "trip")
    with (
        rclone_server(data) as address,
        faulty_storage(address) as faults,
        platform_up(home, "docker", settings=SETTINGS) as up,
    ):
        client = client_of(address)
        client.create_bucket(Bucket=BUCKET)
        wait_until(lambda: intake_is_paused(up), what="the intake is held")
        with temporary_settings({PREFECT_API_URL: up.api}):
            MinIOCredentials(
                minio_root_user=KEYS["access"],
                minio_root_password=SecretStr(KEYS["secret"]),
                region_name="us-east-1",
                aws_client_parameters=AwsClientParameters(endpoint_url=faults.address),
            ).save("store", overwrite=True)
        assert "there is no block minio-credentials/store" in up.output
        applied = up.command("prefecture", "apply", "--pool", "docker")
        assert applied.returncode == 0, applied.stderr
        yield Published(up, client, faults, data)
        client.close()


def test_the_intake_is_held_until_results_can_be_stored(published: Published) -> None:
    platform = published.platform
    wait_until(lambda: not intake_is_paused(platform), what="the intake is resumed")
    wanted = {"filter": {"event": {"name": ["prefecture.agent.unhealthy"]}}}

    def reported() -> list[str]:
        events = platform.rest("POST", "/events/filter", wanted).json()["events"]
        failed = [event["payload"]["failed"] for event in events]
        return [checks["results storage"] for checks in failed if "results storage" in checks]

    first = wait_until(reported, what="it was reported")[-1]
    assert "there is no block minio-credentials/store" in first


def test_a_job_publishes_in_s3(published: Published, tmp_path: Path) -> None:
    platform = published.platform
    payload = {"source": "trip", "format": "webp"}
    kept = {*published.keys(".prefect")}
    job = platform.submit_job("convert-images/high", payload, "web")
    run = platform.ended(job)
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    manifest = published.manifest("web", job)
    names = [file["path"] for file in manifest["files"]]
    assert "a.webp" in names
    assert published.keys(f"web/{job}") == sorted(
        ["manifest.json", *(f"{manifest['folder']}/{name}" for name in names)]
    )
    assert not list(published.scratch.iterdir())
    # The flow's return value is small JSON, under the same root.
    # A helper of another test's job may end, and return, meanwhile.
    records = {*published.keys(".prefect")} - kept
    receipts = [
        (published.data / BUCKET / PREFIX / ".prefect" / one).read_text() for one in records
    ]
    assert sum(f"s3://{BUCKET}/{PREFIX}/web/{job}/" in receipt for receipt in receipts) == 1

    (artifact,) = platform.artifacts(job, "markdown")
    assert f"/{BUCKET}/{PREFIX}/web/{job}/{manifest['folder']}/a.webp>" in artifact["data"]
    assert "X-Amz" not in artifact["data"]

    shown = platform.command("prefecture", "results", str(job))
    assert shown.returncode == 0, shown.stderr
    links = [line for line in shown.stdout.splitlines() if line.startswith("http")]
    assert len(links) == len(names)
    with urllib.request.urlopen(links[0]) as answer:
        assert len(answer.read()) == manifest["files"][0]["bytes"]
    copied = platform.command("prefecture", "results", str(job), "--to", str(tmp_path / "copy"))
    assert copied.returncode == 0, copied.stderr
    assert (tmp_path / "copy" / "a.webp").is_file()

    with closing(docker.from_env(timeout=120)) as client:
        for container in client.containers.list(
            all=True, filters={"label": "prefecture=job"}, ignore_removed=True
        ):
            assert KEYS["secret"] not in str(container.attrs)


def test_several_workers_hand_their_sums_over_in_s3(published: Published) -> None:
    platform = published.platform
    payload = {"generate": {"files": 4, "numbers": 50_000}, "workers": 2, "partition": 1}
    job = platform.submit_job("average-files/high", payload, "shared")
    run = platform.ended(job)
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    manifest = published.manifest("shared", job)
    assert manifest["summary"]["runs"] == 4
    assert published.keys(f"shared/{job}") == sorted(
        ["manifest.json", f"{manifest['folder']}/means.parquet"]
    )


def test_a_job_killed_in_the_middle_is_tried_again_and_leaves_nothing(
    published: Published,
) -> None:
    platform = published.platform
    job = platform.submit_job("find-primes/high", {"upper_bound": 3_000_000_000}, "killed")

    def at_work() -> bool:
        return any(published.scratch.glob(f"{job}.*"))

    wait_until(at_work, what="the job stages")
    kill_container(platform, str(job))

    def done() -> bool:
        return "manifest.json" in published.keys(f"killed/{job}")

    wait_until(done, what="the second attempt has published")
    manifest = published.manifest("killed", job)
    assert manifest["attempt"] == 2
    wait_until(lambda: not list(published.scratch.iterdir()), what="the stages are gone")
    assert published.keys(f"killed/{job}") == sorted(
        ["manifest.json", f"{manifest['folder']}/primes.parquet"]
    )


def test_a_job_outlasts_storage_that_fails_while_it_publishes(published: Published) -> None:
    published.faults.reset()
    parameters = {"payload": {"upper_bound": 1000}, "results_directory": "patient"}
    top = f"/{BUCKET}/{PREFIX}/patient"
    # Of three faults two meet the client's own two tries, and the third the step's second try.
    published.faults.fail(f"PUT {top}", "busy", times=3)
    published.faults.fail(f"GET {top}", "dropped", times=3)
    job = UUID(published.platform.create("find-primes/high", parameters=parameters).json()["id"])
    run = published.platform.ended(job)
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    manifest = published.manifest("patient", job)
    assert published.keys(f"patient/{job}") == sorted(
        ["manifest.json", f"{manifest['folder']}/primes.parquet"]
    )


def test_a_key_that_is_denied_fails_the_job_in_one_line(published: Published) -> None:
    published.faults.reset()
    published.faults.fail(f"PUT /{BUCKET}/{PREFIX}/denied", "refused", times=20)
    job = published.platform.submit_job("find-primes/high", {"upper_bound": 1000}, "denied")
    run = published.platform.ended(job)
    assert run["state_name"] == "Failed"
    assert "access is denied to that key" in run["state"]["message"]
    assert "\n" not in run["state"]["message"]
    assert published.keys(f"denied/{job}") == []
    published.faults.reset()


def test_a_job_cancelled_in_the_middle_of_its_upload_leaves_nothing(published: Published) -> None:
    platform = published.platform
    published.faults.reset()
    put = f"PUT /{BUCKET}/{PREFIX}/cancelled"
    published.faults.fail(put, "silent", times=100)
    job = platform.submit_job("find-primes/high", {"upper_bound": 1000}, "cancelled")
    wait_until(lambda: published.faults.count(put), what="the upload is under way")
    cancelled = platform.command("prefecture", "cancel", str(job))
    assert cancelled.returncode == 0, cancelled.stderr
    assert platform.ended(job)["state_name"] == "Cancelled"
    published.faults.reset()
    wait_until(lambda: not any(published.scratch.glob(f"{job}.*")), what="the stage is gone")
    assert published.keys(f"cancelled/{job}") == []


def applied(published: Published, **settings: str) -> subprocess.CompletedProcess[str]:
    """`prefecture apply`, run with other settings."""
    up = published.platform
    other = Platform(up.pool, up.home, up.port, up.process, up.environment | settings)
    return other.command("prefecture", "apply", "--pool", up.pool)


@pytest.fixture
def as_it_was(published: Published) -> Generator[None]:
    """What a test applies is taken back."""
    yield
    again = applied(published)
    assert again.returncode == 0, again.stderr


@pytest.mark.usefixtures("as_it_was")
def test_a_bucket_that_is_missing_is_reported_by_apply(published: Published) -> None:
    refused = applied(published, PREFECTURE_RESULTS_ROOT="s3://nowhere")
    assert refused.returncode == 1
    assert "s3://nowhere: the bucket does not exist" in refused.stderr


@pytest.mark.usefixtures("as_it_was")
def test_an_endpoint_that_is_down_is_reported_by_apply(published: Published) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        save_aws_block(published.platform, "down", endpoint)
        refused = applied(published, PREFECTURE_S3_CREDENTIALS="aws-credentials/down")
    assert refused.returncode == 1
    (line,) = refused.stderr.splitlines()
    assert f"s3://{BUCKET}/{PREFIX}" in line
    assert endpoint in line


@pytest.mark.usefixtures("as_it_was")
def test_results_by_aws_credentials(published: Published) -> None:
    published.faults.reset()
    save_aws_block(published.platform, "store", published.faults.address)
    done = applied(published, PREFECTURE_S3_CREDENTIALS="aws-credentials/store")
    assert done.returncode == 0, done.stderr
    job = published.platform.submit_job("find-primes/high", {"upper_bound": 1000}, "aws")
    run = published.platform.ended(job)
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    folder = published.manifest("aws", job)["folder"]
    assert published.keys(f"aws/{job}") == sorted(["manifest.json", f"{folder}/primes.parquet"])
