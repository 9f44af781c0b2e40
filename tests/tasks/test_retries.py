"""Steps that talk to storage which fails for a while: retried as Prefect tasks, each on its own."""

import gc
import socketserver
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prefect import flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect_aws.client_parameters import AwsClientParameters
from prefect_aws.credentials import AwsCredentials
from pydantic import SecretStr

from tasks.errors import SourceNotFound, StorageUnavailable
from tasks.runtime import retries
from tasks.runtime.inputs import fetch_object, list_objects
from tasks.storage.inputs.s3 import S3Object, connect, find_objects
from tests.support.faults import Fault, FaultyStorage, faulty_storage
from tests.support.servers import stock_server
from tests.support.storage import moto_server
from tests.tasks.s3 import BUCKET, KEY_ID, SECRET, check_message, client_of

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

PASSING: list[Fault] = ["busy", "dropped", "cut"]
SOURCE = f"s3://{BUCKET}/trip/"
LIST = f"GET /{BUCKET}?"
GET = f"GET /{BUCKET}/trip/"

# The same steps, without their waits.
list_now = list_objects.with_options(retry_delay_seconds=0)
fetch_now = fetch_object.with_options(retry_delay_seconds=0)


# Prefect leaves one socket to its server open for each flow run, until it is collected.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """A Prefect server of this module's own, which task runs report to."""
    with (
        stock_server(tmp_path_factory.mktemp("prefect")) as api,
        temporary_settings({PREFECT_API_URL: api}),
    ):
        yield


@pytest.fixture(autouse=True)
def no_socket_outlives_its_test() -> Generator[None]:
    yield
    gc.collect()


@pytest.fixture(scope="module")
def front() -> Generator[FaultyStorage]:
    with moto_server() as address:
        direct = client_of(address)
        direct.create_bucket(Bucket=BUCKET)
        for name in ("a.jpg", "b.jpg", "c.jpg"):
            direct.put_object(Bucket=BUCKET, Key=f"trip/{name}", Body=name.encode() * 1000)
        direct.close()
        with faulty_storage(address) as storage:
            yield storage


@pytest.fixture
def storage(front: FaultyStorage) -> FaultyStorage:
    front.reset()
    return front


@pytest.fixture(scope="module")
def credentials(front: FaultyStorage) -> str:
    """A block for clients that do not retry on their own: each request is one try of a step."""
    AwsCredentials(
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SecretStr(SECRET),
        region_name="us-east-1",
        aws_client_parameters=AwsClientParameters(
            endpoint_url=front.address, config={"retries": {"total_max_attempts": 1}}
        ),
    ).save("photos")
    return "aws-credentials/photos"


@pytest.fixture
def client(storage: FaultyStorage) -> Generator["S3Client"]:
    """Such a client, for a step alone."""
    client = client_of(storage.address)
    yield client
    client.close()


def check_logged(logs: pytest.LogCaptureFixture, retries: int) -> None:
    said = [record for record in logs.records if record.name == "prefect.task_runs"]
    assert sum("Retry" in record.getMessage() for record in said) == retries
    assert all(record.exc_info is None for record in said), "a traceback for the user"


@flow(persist_result=False)
async def read_all(credentials: str, scratch: Path) -> list[bytes]:
    """List the source, then fetch one object after the other, as a job does."""
    contents: list[bytes] = []
    for found in await list_now(SOURCE, credentials):
        async with replace(found, fetch=fetch_now).local(scratch) as path:
            contents.append(path.read_bytes())
    return contents


WHOLE = [name.encode() * 1000 for name in ("a.jpg", "b.jpg", "c.jpg")]


@pytest.mark.parametrize("fault", PASSING)
async def test_a_failing_fetch_is_tried_again_and_nothing_else(
    storage: FaultyStorage,
    credentials: str,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    fault: Fault,
) -> None:
    storage.fail(f"{GET}b.jpg", fault, times=3)
    assert await read_all(credentials, tmp_path) == WHOLE
    assert storage.count(LIST) == 1
    # One download may try a body twice; only then is it the step's turn.
    assert storage.count(f"{GET}b.jpg") == 4
    assert [storage.count(f"{GET}{name}") for name in ("a.jpg", "c.jpg")] == [1, 1]
    assert list(tmp_path.iterdir()) == []
    check_logged(caplog, retries=1 if fault == "cut" else 3)


async def test_a_failing_list_is_tried_again(
    storage: FaultyStorage, credentials: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    storage.fail(LIST, "busy", times=2)
    assert await read_all(credentials, tmp_path) == WHOLE
    assert storage.count(LIST) == 3
    assert storage.count(GET) == 3
    check_logged(caplog, retries=2)


@flow(persist_result=False)
async def fetch_one(found: Any, path: Path) -> None:
    """One step, and nothing else."""
    await fetch_now(found, path)


async def test_storage_that_stays_away_is_given_up_in_one_line(
    storage: FaultyStorage, client: "S3Client", caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (found, *_) = find_objects(SOURCE, client)
    storage.fail(f"HEAD /{BUCKET}/", "busy", times=100)
    with pytest.raises(StorageUnavailable, match="cannot be read for now") as given_up:
        await fetch_one(found, tmp_path / "a.jpg")
    assert "\n" not in str(given_up.value)
    assert storage.count("HEAD ") == retries.TRIES
    check_logged(caplog, retries=retries.TRIES - 1)


async def test_time_for_retries_ends_before_the_tries(
    storage: FaultyStorage, client: "S3Client", monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(retries, "RETRY_SECONDS", 0.0)
    (found, *_) = find_objects(SOURCE, client)
    storage.fail(f"HEAD /{BUCKET}/", "busy", times=100)
    with pytest.raises(StorageUnavailable):
        await fetch_one(found, tmp_path / "a.jpg")
    assert storage.count("HEAD ") == 1


@pytest.mark.parametrize("key", ["trip/gone.jpg", "trip/refused.jpg"])
async def test_final_errors_are_reported_at_once(
    storage: FaultyStorage,
    client: "S3Client",
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    key: str,
) -> None:
    storage.fail(f"HEAD /{BUCKET}/trip/refused.jpg", "refused", times=100)
    found = S3Object(Path(key).name, client, BUCKET, key, fetch_now)
    with pytest.raises(SourceNotFound, match=key):
        await fetch_one(found, tmp_path / "a.jpg")
    assert storage.count("HEAD ") == 1
    check_logged(caplog, retries=0)


async def test_client_retries_little_unless_its_block_says_otherwise(credentials: str) -> None:
    config: Any = (await connect(credentials)).meta.config  # its options are set as it is made
    assert (config.connect_timeout, config.read_timeout) == (10, 20)
    assert config.retries["total_max_attempts"] == 1, "the block's own, not our 2"


async def test_a_role_that_cannot_be_assumed_for_now_is_no_fault_of_the_job(
    server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as taken:
        port = taken.server_address[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    block = AwsCredentials(
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SecretStr(SECRET),
        region_name="us-east-1",
        assume_role_arn="arn:aws:iam::123456789012:role/reader",
    )
    await block.asave("role")
    with pytest.raises(StorageUnavailable) as refused:
        await connect("aws-credentials/role")
    check_message(refused, "S3 does not answer for aws-credentials/role", str(port))


@pytest.mark.parametrize("step", [list_objects, fetch_object], ids=lambda step: step.name)
def test_waits_add_up_to_about_a_minute(step: Any) -> None:
    assert step.retry_delay_seconds[: retries.TRIES - 1] == [1, 2, 4, 8, 16, 32]
    assert step.retry_jitter_factor > 0
    assert step.persist_result is False
