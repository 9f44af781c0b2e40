"""Uploads that are kept in S3: outages, races, and what a killed gateway leaves."""

import os
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from deployments.gateway.archives.receive import BrokenOff, receive
from deployments.gateway.errors import add_handlers
from deployments.gateway.uploads.receiving import Uploads
from deployments.gateway.uploads.records import NotSent, QuotaExceeded, UploadExists
from deployments.gateway.uploads.s3 import S3Store
from deployments.gateway.uploads.sending import PART
from tasks.contracts import S3Address
from tasks.errors import InvalidPayload, OperatorError, StorageUnavailable
from tests.deployments.gateway.archived import body, packed
from tests.deployments.gateway.kept import BUCKET, Kept, in_s3, upload
from tests.support.faults import Fault, FaultyStorage, faulty_storage
from tests.support.storage import client_of, moto_with

TRIES = 4  # of one file: two of the client, and once more
LARGE = os.urandom(2 * PART + 1000)


@dataclass
class Faulty:
    """Uploads to S3 that can be made to fail."""

    kept: Kept
    faults: FaultyStorage
    uploads: Uploads

    def fail(self, method: str, path: str, times: int = TRIES) -> None:
        """Let requests for an object of anna's find S3 busy."""
        self.faults.fail(f"{method} /{BUCKET}/{self.kept.prefix}/users/anna/{path}", "busy", times)

    def again(self, path: str) -> None:
        """Continue an upload of which all has arrived, as a gateway that was just started."""
        uploads = self.kept.uploads()
        offset = uploads.offset("anna", path)
        assert offset is not None
        with uploads.receive("anna", path, offset, 0, overwrite=False) as part:
            uploads.publish("anna", path, part, overwrite=False)


@pytest.fixture(scope="module")
def server() -> Generator[str]:
    with moto_with(BUCKET) as address:
        yield address


@pytest.fixture
def faulty(server: str, tmp_path: Path) -> Generator[Faulty]:
    with faulty_storage(server) as faults, in_s3(tmp_path, faults.address, server) as kept:
        yield Faulty(kept, faults, kept.uploads())


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
def test_nothing_is_lost_while_s3_is_away(faulty: Faulty, content: bytes) -> None:
    faulty.fail("PUT", "a", times=100)
    with pytest.raises(StorageUnavailable, match="cannot be reached for now"):
        upload(faulty.uploads, "a", content)
    assert faulty.kept.files() == {}
    faulty.faults.reset()
    assert faulty.uploads.offset("anna", "a") == len(content)
    faulty.again("a")
    assert faulty.kept.files() == {"anna/a": content}
    assert faulty.kept.arriving() == {}


def test_s3_may_fail_for_a_moment(faulty: Faulty) -> None:
    faulty.fail("PUT", "a", times=TRIES - 1)
    upload(faulty.uploads, "a", b"1")
    assert faulty.kept.files() == {"anna/a": b"1"}


@pytest.mark.parametrize("content", [b"small", LARGE], ids=["small", "large"])
def test_a_file_that_has_come_meanwhile_stays(faulty: Faulty, content: bytes) -> None:
    kept = faulty.kept
    assert kept.client is not None
    with faulty.uploads.receive("anna", "a", 0, len(content), overwrite=False) as part:
        part.write(content)
        kept.client.put_object(Bucket=BUCKET, Key=f"{kept.prefix}/users/anna/a", Body=b"first")
        with pytest.raises(UploadExists, match="overwrite=true"):
            faulty.uploads.publish("anna", "a", part, overwrite=False)
        assert kept.files() == {"anna/a": b"first"}
        faulty.uploads.publish("anna", "a", part, overwrite=True)
    assert kept.files() == {"anna/a": content}
    assert kept.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []


def test_an_answer_that_is_lost_is_no_other_file(faulty: Faulty) -> None:
    # The first answer is cut off: the client sends the same again, and an object is there.
    place = f"PUT /{BUCKET}/{faulty.kept.prefix}/users/anna/a"
    faulty.faults.fail(place, "unheard", 1)
    upload(faulty.uploads, "a", b"1")
    assert faulty.faults.count(place) == 2
    assert faulty.kept.files() == {"anna/a": b"1"}


def test_a_key_has_so_many_bytes(faulty: Faulty) -> None:
    path = "/".join(["x" * 250] * 4)
    with pytest.raises(InvalidPayload, match="path: it is longer than"):
        upload(faulty.uploads, path, b"1")
    with pytest.raises(InvalidPayload, match="path: it is longer than"):
        faulty.uploads.store.check_in("anna", "folder", overwrite=False)(path)


async def test_an_archive_is_a_folder_in_s3(faulty: Faulty) -> None:
    files = {f"{number:02}.csv": b"%d\n" % number for number in range(30)} | {"b/large": LARGE}
    done = await receive(
        faulty.uploads, "anna", "many", body(packed(*files.items())), None, overwrite=False
    )
    assert done.files == 31
    assert faulty.kept.files() == {f"anna/many/{name}": data for name, data in files.items()}
    assert faulty.kept.arriving() == {}
    for name, error in (
        ("05.csv", UploadExists),
        ("b", InvalidPayload),
        ("05.csv/x", InvalidPayload),
    ):
        with pytest.raises(error):
            await receive(
                faulty.uploads,
                "anna",
                "many",
                body(packed(("new", b"1"), (name, b"2"))),
                None,
                overwrite=False,
            )
    assert len(faulty.kept.files()) == 31
    small = faulty.kept.uploads(most=len(LARGE))
    with pytest.raises(QuotaExceeded):
        await receive(small, "anna", "more", body(packed(("a", b"1"))), None, overwrite=False)


async def test_none_of_an_archive_stays_where_a_file_is_refused(faulty: Faulty) -> None:
    kept = faulty.kept
    files = [(f"{number}", b"1") for number in range(20)]

    def meanwhile() -> None:
        assert kept.client is not None
        key = f"{kept.prefix}/users/anna/many/19"
        kept.client.put_object(Bucket=BUCKET, Key=key, Body=b"first")

    with pytest.raises(UploadExists):
        archive = body(packed(*files), at_the_end=meanwhile)
        await receive(faulty.uploads, "anna", "many", archive, None, overwrite=False)
    assert kept.files() == {"anna/many/19": b"first"}
    assert kept.arriving() == {}


@pytest.mark.parametrize("fault", ["busy", "refused"])
@pytest.mark.parametrize("breaks", [False, True])
async def test_nothing_of_an_archive_is_lost_while_s3_is_away(
    faulty: Faulty, fault: Fault, breaks: bool
) -> None:
    files = {"a": b"1", "b": b"22", "c": LARGE}
    place = f"PUT /{BUCKET}/{faulty.kept.prefix}/users/anna/many/b"
    faulty.faults.fail(place, fault, times=100)
    arriving = packed(*files.items())[: -50_000 if breaks else None]
    archive = body(arriving, breaks=breaks)
    with pytest.raises(NotSent, match="1 of 2 files" if breaks else "2 of 3 files"):
        await receive(faulty.uploads, "anna", "many", archive, None, overwrite=False)
    whole = {f"anna/many/{name}": data for name, data in files.items() if name != "c" or not breaks}
    assert faulty.kept.files() == {path: data for path, data in whole.items() if path[-1] != "b"}
    assert [*faulty.kept.arriving().values()] == [b"22"]
    faulty.faults.reset()
    faulty.again("many/b")
    assert faulty.kept.files() == whole
    assert faulty.kept.arriving() == {}


async def test_of_an_archive_that_breaks_off_the_whole_files_stay(faulty: Faulty) -> None:
    archive = packed(("a", b"1"), ("b", LARGE), ("c", LARGE))[:-50_000]
    with pytest.raises(BrokenOff):
        await receive(
            faulty.uploads, "anna", "many", body(archive, breaks=True), None, overwrite=False
        )
    assert faulty.kept.files() == {"anna/many/a": b"1", "anna/many/b": LARGE}
    assert faulty.kept.arriving() == {}


async def test_the_answer_says_how_to_finish_it() -> None:
    app = FastAPI()
    add_handlers(app)

    @app.put("/")
    async def put() -> None:  # pyright: ignore[reportUnusedFunction]  # the application calls it
        raise NotSent(1, 2) from StorageUnavailable("s3://secret/address is away")

    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        answer = await client.put("/")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "finish each with a PUT" in answer.json()["detail"]
    assert "secret" not in answer.text


async def test_an_archive_that_is_sent_again_leaves_nothing_behind(faulty: Faulty) -> None:
    faulty.fail("PUT", "many/b", times=100)
    archive = packed(("a", b"1"), ("b", b"2"))
    with pytest.raises(NotSent):
        await receive(faulty.uploads, "anna", "many", body(archive), None, overwrite=False)
    assert len(faulty.kept.arriving()) == 1
    faulty.faults.reset()
    with faulty.uploads.receive("anna", "many/b", 1, 0, overwrite=False):
        # The other request has it: it is left to that one.
        await receive(faulty.uploads, "anna", "many", body(archive), None, overwrite=True)
        assert len(faulty.kept.arriving()) == 1
    await receive(faulty.uploads, "anna", "many", body(archive), None, overwrite=True)
    assert faulty.kept.files() == {"anna/many/a": b"1", "anna/many/b": b"2"}
    assert faulty.kept.arriving() == {}


def test_what_a_killed_gateway_has_begun_is_aborted(faulty: Faulty) -> None:
    client, key = faulty.kept.client, f"{faulty.kept.prefix}/users/anna/a"
    assert client is not None
    client.create_multipart_upload(Bucket=BUCKET, Key=key)
    faulty.uploads.store.remove_unfinished(0)
    (left,) = client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    assert left.get("Key") == key
    faulty.uploads.store.remove_unfinished(datetime.now(UTC).timestamp() + 60)
    assert client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", []) == []


def test_what_is_wrong_is_said_in_one_line(faulty: Faulty, server: str, tmp_path: Path) -> None:
    faulty.uploads.store.probe()
    assert faulty.kept.keys() == []
    nowhere = Uploads(
        S3Store(S3Address("nowhere", ""), lambda: client_of(server), pauses=()), tmp_path, 100, 0
    )
    faulty.faults.fail(f"PUT /{BUCKET}/{faulty.kept.prefix}/.prefecture", "refused", 1)
    for store, reason in (
        (nowhere.store, "the bucket does not exist"),
        (faulty.uploads.store, "access is denied"),
    ):
        with pytest.raises(OperatorError, match=reason) as refused:
            store.probe()
        assert "correct PREFECTURE_UPLOADS_ROOT" in str(refused.value)
        assert "\n" not in str(refused.value)
    with pytest.raises(OperatorError, match="the bucket does not exist"):
        upload(nowhere, "a", b"1")
