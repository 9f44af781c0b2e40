"""Files that users upload to the gateway, and the jobs that read them."""

import base64
import gzip
import hashlib
import io
import socket
import tarfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import pytest

from deployments.gateway.__main__ import LARGEST_BODY
from deployments.gateway.users.tokens import Scope, Tokens
from tests.support.platform import Platform, wait_until
from tests.support.web.gateway import Gateway, gateway_up

QUOTA = 64 * 2**20


@pytest.fixture(scope="module")
def gateway(process_platform: Platform) -> Generator[Gateway]:
    settings = {
        "PREFECTURE_GATEWAY_INPUTS": str(QUOTA),
        "PREFECTURE_GATEWAY_SOURCES": "s3://photos/shared",
    }
    with gateway_up(process_platform.home, process_platform.api, **settings) as gateway:
        yield gateway


def digest(content: bytes) -> dict[str, str]:
    value = base64.b64encode(hashlib.sha256(content).digest()).decode()
    return {"Repr-Digest": f"sha-256=:{value}:"}


def put(user: httpx.Client, path: str, content: bytes, **headers: str) -> httpx.Response:
    return user.put(f"/inputs/{path}", content=content, headers=headers)


@contextmanager
def begun(gateway: Gateway, token: str, length: int, some: bytes) -> Generator[socket.socket]:
    """An upload of x.csv whose connection is closed with the block: the client has sent `some`."""
    address = urlsplit(gateway.url)
    head = (
        f"PUT /v1/inputs/x.csv HTTP/1.1\r\nHost: {address.netloc}\r\n"
        f"Content-Length: {length}\r\nAuthorization: Bearer {token}\r\n\r\n"
    )
    with socket.create_connection((str(address.hostname), int(address.port or 0)), 60) as client:
        client.sendall(head.encode() + some)
        yield client


def packed(files: Mapping[str, bytes]) -> bytes:
    """An archive of files."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return whole.getvalue()


def test_a_source_in_s3_is_in_a_place_that_users_may_read(gateway: Gateway) -> None:
    body = {"task": "average-files", "results_directory": "s3"}
    with gateway.user("odile") as odile:
        refused = odile.post("/jobs", json=body | {"payload": {"source": "s3://payroll/2026.csv"}})
        assert (refused.status_code, refused.json()["detail"]) == (
            403,
            "payload.source: 's3://payroll/2026.csv' is in no place that users may read: upload "
            "the files, or name some of s3://photos/shared",
        )
        accepted = odile.post(
            "/jobs", json=body | {"payload": {"source": "s3://photos/shared/a.csv"}}
        )
        assert accepted.status_code == 201, accepted.text
    with gateway.user("operator", Scope.OPERATE, Scope.SUBMIT) as operator:
        accepted = operator.post("/jobs", json=body | {"payload": {"source": "s3://payroll/x"}})
        assert accepted.status_code == 201, accepted.text


def test_a_job_reads_what_its_user_has_uploaded(
    gateway: Gateway, process_platform: Platform
) -> None:
    with gateway.user("nora") as nora:
        sources: list[str] = []
        for name, content in (("a.csv", b"1\n2\n3\n"), ("b.csv", b"3\n4\n5\n")):
            done = nora.put(f"/inputs/numbers/{name}", content=content, headers=digest(content))
            assert done.status_code == 201, done.text
            assert done.json()["sha256"] == hashlib.sha256(content).hexdigest()
            sources.append(done.json()["source"])
        assert sources == ["users/nora/numbers/a.csv", "users/nora/numbers/b.csv"]
        assert [each["path"] for each in nora.get("/inputs").json()] == [
            "numbers/a.csv",
            "numbers/b.csv",
        ]
        request = {
            "task": "average-files",
            "payload": {"source": "users/nora/numbers"},
            "results_directory": "uploaded",
        }
        job = UUID(nora.post("/jobs", json=request).json()["job"])
        process_platform.completed(job, "uploaded")
        means = nora.get(f"/jobs/{job}/result/means.parquet")
        assert means.content.startswith(b"PAR1")
        with gateway.user("lena") as lena, gateway.user("chief", Scope.OPERATE) as chief:
            for source in ("users/nora/numbers", "users//NORA/numbers/*", "**/*.csv"):
                other = request | {"payload": {"source": source}}
                many = {name: other[name] for name in ("task", "results_directory")}
                many |= {"payloads": [{"source": "users/lena/x"}, {"source": source}]}
                for refused in (lena.post("/jobs", json=other), lena.post("/jobs/bulk", json=many)):
                    assert refused.status_code == 403, source
                    assert "name your own, which are in users/lena/" in refused.json()["detail"]
            job = UUID(chief.post("/jobs", json=request).json()["job"])
            process_platform.completed(job, "uploaded")
        keyed = nora.post("/jobs", json=request | {"key": "numbers"}).json()["job"]
        process_platform.completed(UUID(keyed), "uploaded")
        assert nora.delete("/inputs/numbers").is_success
        assert nora.get("/inputs").json() == []
        refuses_sources_that_are_gone(nora, request, keyed)
    assert '"reason": "users/nora/numbers/a.csv, 6 bytes"' in gateway.audit


def refuses_sources_that_are_gone(nora: httpx.Client, request: dict[str, Any], job: str) -> None:
    """`job`: that of the request with the key `numbers`; its upload was deleted."""
    gone = (
        "payload.source: 'users/nora/numbers' names no file that is there: upload it again, or "
        "name another"
    )
    many = {name: request[name] for name in ("task", "results_directory")}
    for path, body, line in (
        ("/jobs", request, gone),
        ("/jobs/bulk", many | {"payloads": [request["payload"]]}, f"payload 1 of 1: {gone}"),
        (f"/jobs/{job}/restart", None, f"job {job}: {gone}"),
    ):
        refused = nora.post(path, json=body)
        assert (refused.status_code, refused.json()["detail"]) == (422, line)
    done = nora.post("/jobs/restart", json={"jobs": [job], "confirm": 1}).json()
    assert (done["done"], done["acted"], done["jobs"]) == (True, 1, [])
    assert done["refused"] == [f"job {job}: {gone}"]
    # It was submitted while the upload was there.
    assert nora.post("/jobs", json=request | {"key": "numbers"}).json()["job"] == job
    bulk = {"payloads": [request["payload"]], "key": "bulk"}
    assert nora.post("/jobs/bulk", json=many | bulk).status_code == 422


def test_a_large_file_is_not_kept_in_memory_nor_overwritten(gateway: Gateway) -> None:
    content = bytes(range(256)) * (LARGEST_BODY // 256 + 1)
    with gateway.user("otto") as otto:
        assert put(otto, "large", content).status_code == 201
        again = put(otto, "large", b"other")
        assert again.status_code == 409
        assert "overwrite=true" in again.json()["detail"]
        assert otto.put("/inputs/large?overwrite=true", content=b"other").status_code == 201
        (listed,) = otto.get("/inputs").json()
        assert listed["bytes"] == 5
        assert otto.delete("/inputs/large").is_success


def test_an_upload_goes_on_where_its_connection_broke(gateway: Gateway) -> None:
    content = b"0123456789abcdef" * 2**17
    token = Tokens(gateway.home).add("pia")
    with gateway.client(token) as pia:

        def offset() -> int:
            return int(pia.head("/inputs/x.csv").headers.get("upload-offset", 0))

        with begun(gateway, token, len(content), content[:-1]):
            wait_until(offset, what="what has arrived is kept")
            assert put(pia, "x.csv", b"abc").status_code == 409, "one at a time"

        def go_on() -> httpx.Response | None:
            there = offset()
            headers = {"Upload-Offset": str(there)} | digest(content)
            answer = put(pia, "x.csv", content[there:], **headers)
            return None if answer.status_code == 409 else answer

        too_far = put(pia, "x.csv", b"abc", **{"Upload-Offset": str(len(content))})
        assert too_far.status_code == 409
        done = wait_until(go_on, what="the broken request has let go of the file")
        assert done.status_code == 201, done.text
        assert pia.head("/inputs/x.csv").status_code == 404
        assert pia.delete("/inputs/x.csv").is_success


def test_what_is_refused(gateway: Gateway) -> None:
    with gateway.user("quin") as quin, gateway.user("rosa") as rosa:
        damaged = put(quin, "a", b"abc", **digest(b"abd"))
        assert damaged.status_code == 422
        assert "SHA-256" in damaged.json()["detail"]
        assert put(quin, "a", b"abc", **{"Repr-Digest": "md5=:x:"}).status_code == 422
        ranged = put(quin, "a", b"abc", **{"Content-Range": "bytes 2-4/5"})
        assert ranged.status_code == 422
        assert "Upload-Offset" in ranged.json()["detail"]
        assert put(quin, "a", b"abc", **{"Content-Encoding": "gzip"}).status_code == 415
        unknown = quin.put("/inputs/a", content=iter([b"abc"]))
        assert unknown.status_code == 411
        for path in ("%2e%2e/a", ".uploads/a", "a%2f%2fb", "a/", "a%0Ab", "a%FFb"):
            assert put(quin, path, b"abc").status_code == 422, path
        with begun(gateway, Tokens(gateway.home).add("quin"), QUOTA + 1, b"") as large:
            assert large.recv(100).startswith(b"HTTP/1.1 507 ")
        assert put(quin, "a", b"abc").status_code == 201
        assert rosa.get("/inputs").json() == []
        assert rosa.delete("/inputs/a").status_code == 404
        assert quin.delete("/inputs/a").is_success
    with gateway.client(None) as stranger:
        assert put(stranger, "a", b"abc").status_code == 401


def test_a_folder_is_one_request(gateway: Gateway) -> None:
    files = {f"{number:04}.csv": f"{number}\n".encode() for number in range(300)}
    with gateway.user("sven") as sven:

        def send(archive: bytes, **headers: str) -> httpx.Response:
            kind = {"Content-Type": "application/x-tar"}
            return put(sven, "many", archive, **(kind | headers))

        done = send(gzip.compress(packed(files)), **{"Content-Encoding": "gzip"})
        assert done.status_code == 201, done.text
        size = sum(map(len, files.values()))
        source = "users/sven/many"
        assert done.json() == {"path": "many", "source": source, "files": 300, "bytes": size}
        assert [each["path"] for each in sven.get("/inputs").json()] == [
            f"many/{name}" for name in files
        ]
        slip = send(packed({"fine.csv": b"1", "../../rosa/a.csv": b"2"}))
        assert slip.status_code == 422
        assert "'..' is no name" in slip.json()["detail"]
        assert send(packed({"x.csv": b"1", "0000.csv": b"2"})).status_code == 409
        assert send(packed({"large": bytes(QUOTA)})).status_code == 507
        assert send(b"", **{"Content-Encoding": "br"}).status_code == 415
        assert len(sven.get("/inputs?under=many/").json()) == 300
        assert sven.delete("/inputs/many").is_success
    assert f'"reason": "{source}, 300 files, {size:,} bytes"' in gateway.audit
    assert list((gateway.home / "inputs" / "users" / "sven" / ".uploads").iterdir()) == []
