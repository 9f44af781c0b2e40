"""S3 that is away, breaks off or refuses: whose fault it is, in one line."""

import socketserver
from collections.abc import Generator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tasks.errors import JobError, PrefectureError, SourceNotFound, StorageUnavailable
from tasks.storage.inputs.s3 import S3Object, download_once, find_objects
from tests.support.web.handlers import always, serving
from tests.tasks.s3 import BUCKET, check_message, client_of

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


def test_wrong_endpoint_is_reported_in_one_line() -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as taken:
        port = taken.server_address[1]
    with pytest.raises(StorageUnavailable) as refused:
        find_objects("s3://photos/a.jpg", client_of(f"http://127.0.0.1:{port}"))
    check_message(refused, "s3://photos/a.jpg cannot be read for now: ", f"127.0.0.1:{port}")


class Broken(BaseHTTPRequestHandler):
    """Promises a hundred bytes and hangs up after ten: what moto's server never does."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100")
        self.send_header("ETag", '"x"')
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(b"x" * 10)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def client_to(handler: type[BaseHTTPRequestHandler]) -> Generator["S3Client"]:
    with serving(handler) as address, closing(client_of(f"http://{address}")) as client:
        yield client


async def test_connection_lost_in_the_middle_is_no_fault_of_the_job(tmp_path: Path) -> None:
    with client_to(Broken) as client:
        found = S3Object("a.jpg", client, BUCKET, "a.jpg", download_once)
        with pytest.raises(StorageUnavailable) as refused:
            async with found.local(tmp_path):
                pytest.fail("ninety bytes are missing")
    check_message(refused, f"s3://{BUCKET}/a.jpg cannot be read for now: ", "try again later")
    assert not isinstance(refused.value, JobError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "error"),
    [
        *((status, StorageUnavailable) for status in (500, 503, 429)),
        *((status, SourceNotFound) for status in (400, 403, 404)),
    ],
)
async def test_answer_tells_whose_fault_it_is(
    tmp_path: Path, status: int, error: type[PrefectureError]
) -> None:
    with client_to(always(status)) as client:
        with pytest.raises(error) as listing:
            find_objects(f"s3://{BUCKET}/a.jpg", client)
        found = S3Object("a.jpg", client, BUCKET, "a.jpg", download_once)
        with pytest.raises(error) as fetching:
            async with found.local(tmp_path):
                pytest.fail("nothing is there")
    for refused in (listing, fetching):
        check_message(refused, f"s3://{BUCKET}/a.jpg cannot be read", str(status))


class Denied(Broken):
    """S3's own answer where the credentials may not list the bucket."""

    def do_GET(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_denied_bucket_is_final_with_the_right_that_is_missing() -> None:
    with client_to(Denied) as client, pytest.raises(SourceNotFound) as refused:
        find_objects(f"s3://{BUCKET}/photos/", client)
    assert str(refused.value) == (
        f"s3://{BUCKET}/photos/ cannot be read: access is denied: let the credentials list the "
        "bucket (s3:ListBucket) (AccessDenied)"
    )
