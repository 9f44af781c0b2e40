"""What a user's command makes of the answers of a gateway, good and bad."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import pytest

from deployments.cli.login import user_of
from deployments.client.gateway.downloads import GatewayResult
from deployments.client.gateway.jobs import open_gateway
from deployments.client.gateway.requests import connected
from deployments.gateway_login import Login
from tasks.errors import CorruptResult, InvalidPayload, NotAdmitted, PrefectureError
from tests.support.web.receiver import Answer, Behaviour, Received, receiver

JOB = uuid4()
CONTENT = b"0123456789" * 1000


def manifest(path: str = "folder/a.bin", content: bytes = CONTENT) -> bytes:
    """The manifest of a result with one file."""
    at = "2026-11-01T00:00:00Z"
    file = {"path": path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    return json.dumps(
        {
            "job": str(JOB),
            "task": "find-primes",
            "attempt": 1,
            "flow_run": str(JOB),
            "parameters": {},
            "submitted": at,
            "started": at,
            "published": at,
            "summary": {},
            "files": [file],
        }
    ).encode()


async def copied(to: Path, answers: Mapping[str, Behaviour], published: bytes) -> list[Received]:
    """Download the result of a job to a folder. `answers`: by the end of the path."""

    def answer(received: Received) -> int | Answer | None:
        if received.path.endswith("/result"):
            return Answer(200, body=published)
        found = next(each for end, each in answers.items() if received.path.endswith(end))
        return found(received) if callable(found) else found

    with receiver() as running:
        running.answer = answer
        async with open_gateway(Login(running.url, "prefecture_x"), print) as jobs:
            result = await jobs.result(str(JOB))
            assert isinstance(result, GatewayResult)
            await result.copy(to)
        return running.requests


async def test_a_download_goes_on_where_it_broke(tmp_path: Path) -> None:
    to = tmp_path / "fetched"
    part = tmp_path / f".fetched.{JOB}.part" / "folder"
    part.mkdir(parents=True)
    (part / "a.bin").write_bytes(CONTENT[:4000])

    def rest(received: Received) -> Answer:
        assert received.headers["range"] == "bytes=4000-"
        return Answer(206, body=CONTENT[4000:])

    await copied(to, {"a.bin": rest}, manifest())
    assert (to / "folder" / "a.bin").read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fetched"]
    (tmp_path / "empty").mkdir()
    await copied(tmp_path / "empty", {"a.bin": Answer(200, body=CONTENT)}, manifest())
    assert (tmp_path / "empty" / "folder" / "a.bin").read_bytes() == CONTENT
    with pytest.raises(InvalidPayload, match="is not an empty folder"):
        await copied(to, {}, manifest())


async def test_what_is_damaged_is_fetched_anew(tmp_path: Path) -> None:
    part = tmp_path / f".fetched.{JOB}.part" / "folder"
    part.mkdir(parents=True)
    (part / "a.bin").write_bytes(b"x" * len(CONTENT))
    await copied(tmp_path / "fetched", {"a.bin": Answer(200, body=CONTENT)}, manifest())
    assert (tmp_path / "fetched" / "folder" / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "sent",
    [CONTENT[:-1], CONTENT + b"1", b"x" * len(CONTENT), b""],
    ids=["shorter", "longer", "other", "nothing"],
)
async def test_a_file_that_differs_is_not_put_in_place(tmp_path: Path, sent: bytes) -> None:
    with pytest.raises(CorruptResult, match=r"a\.bin is not the file that was published"):
        await copied(tmp_path / "fetched", {"a.bin": Answer(200, body=sent)}, manifest())
    assert not (tmp_path / "fetched").exists()


@pytest.mark.parametrize("path", ["../evil", "/etc/evil", "a/../../evil", "a//b", ".", "a\0b"])
async def test_no_path_leads_out_of_the_folder(tmp_path: Path, path: str) -> None:
    with pytest.raises(PrefectureError, match="not understood"):
        await copied(tmp_path / "fetched", {"evil": Answer(200, body=CONTENT)}, manifest(path))
    assert not list(tmp_path.iterdir())


async def test_a_store_that_is_named_gets_no_token(tmp_path: Path) -> None:
    with receiver() as store:
        store.answer = Answer(200, body=CONTENT)
        to_store = Answer(307, {"Location": f"{store.url}/a.bin?signature=1"})
        await copied(tmp_path / "fetched", {"a.bin": to_store}, manifest())
        (asked,) = store.requests
    assert "authorization" not in asked.headers
    assert (tmp_path / "fetched" / "folder" / "a.bin").read_bytes() == CONTENT


async def test_who_is_told_to_wait_waits(tmp_path: Path) -> None:
    refusals = [Answer(503, {"Retry-After": "1"}), Answer(429, {"Retry-After": "1"}), Answer(502)]
    with receiver() as running:
        running.answer = lambda _: refusals.pop() if refusals else Answer(200, body=b"{}")
        async with connected(Login(running.url, "prefecture_x")) as requests:
            assert await requests.get("/me") == {}
            assert len(running.requests) == 4
            refusals.append(Answer(503))
            with pytest.raises(PrefectureError, match="cannot answer now"):
                await requests.send("POST", "/jobs/x/restart", once=True)
            refusals.append(Answer(429))
            await requests.send("POST", "/jobs/x/restart", once=True)


@pytest.mark.parametrize(
    ("status", "body", "kind", "line"),
    [
        (401, b'{"detail": "it is over: send x"}', NotAdmitted, "it is over: ask the operator"),
        (403, b'{"detail": "no\\nscope"}', NotAdmitted, "no scope"),
        (422, b'{"detail": "a \\u001b[31m"}', InvalidPayload, "a \N{REPLACEMENT CHARACTER}\\[31m"),
        (404, b"<html>", InvalidPayload, "answered 404 Not Found"),
        (507, b'{"detail": ["full"]}', PrefectureError, "full"),
        (500, b"[]", PrefectureError, "answered 500"),
    ],
)
async def test_a_refusal_is_one_printable_line(
    status: int, body: bytes, kind: type[PrefectureError], line: str
) -> None:
    with receiver() as running:
        running.answer = Answer(status, body=body)
        async with connected(Login(running.url, "prefecture_x")) as requests:
            with pytest.raises(kind, match=line) as refused:
                await requests.get("/me")
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "answer",
    [
        Answer(404, body=b'{"detail":"Not Found"}'),
        Answer(200, body=b"<!doctype html>"),
        Answer(200, body=b"[]"),
    ],
    ids=range(3),
)
async def test_what_is_no_gateway_is_not_logged_in_to(answer: Answer) -> None:
    with receiver() as running:
        running.answer = answer
        with pytest.raises(InvalidPayload, match=r"there is no gateway at .*, but something else"):
            await user_of(Login(running.url, "prefecture_x"))
