"""What the gateway answers to requests that no route takes, or whose fields nobody can read."""

from collections.abc import AsyncGenerator
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from deployments.gateway.errors import add_handlers
from deployments.gateway.requests import JobRequest, ListWhere
from deployments.gateway.results import is_known
from tasks.errors import InvalidPayload


@pytest.fixture
async def client() -> AsyncGenerator[httpx.AsyncClient]:
    app = FastAPI()
    add_handlers(app)

    @app.post("/jobs")
    async def submit(request: JobRequest) -> None:  # pyright: ignore[reportUnusedFunction]
        assert request.task

    @app.get("/jobs/{job}")
    async def one(job: UUID) -> None:  # pyright: ignore[reportUnusedFunction]
        assert job

    site = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=site, base_url="http://gateway") as client:
        yield client


@pytest.mark.parametrize(
    ("request_", "status", "line"),
    [
        (("GET", "/nothing"), 404, "GET /nothing: there is no such route: /docs lists all of them"),
        (("PUT", "/jobs"), 405, "PUT /jobs: there is no such route: /docs lists all of them"),
        (("GET", "/jobs/x"), 422, "job: 'x' is no id of a job: GET /v1/jobs lists them"),
        (("GET", "/a%0Ab"), 422, "path: it has unprintable characters: leave them out"),
    ],
    ids=range(4),
)
async def test_a_request_that_no_route_takes(
    client: httpx.AsyncClient, request_: tuple[str, str], status: int, line: str
) -> None:
    answer = await client.request(*request_)
    assert (answer.status_code, answer.json()["detail"]) == (status, line)


async def test_a_body_that_is_not_said_to_be_json(client: httpx.AsyncClient) -> None:
    """As `curl --data` sends it."""
    for more in ({"content": "{}"}, {"data": {"task": "x"}}):
        sent: dict[str, Any] = {**more}
        answer = await client.post("/jobs", **sent)
        line = "body: send JSON, with the header `Content-Type: application/json`"
        assert (answer.status_code, answer.json()["detail"]) == (422, line)
    answer = await client.post("/jobs", json={})
    assert answer.json()["detail"] == "task: Field required"


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+12:00"])
def test_a_time_that_utc_does_not_have(at: str) -> None:
    with pytest.raises(InvalidPayload, match=r"since: .* out of the range"):
        ListWhere.model_validate({"since": at}).selection()


def test_a_client_may_have_several_versions_of_a_file() -> None:
    for known in ('"a"', 'W/"a"', '"b", W/"a"', "*"):
        assert is_known(known, '"a"'), known
    for unknown in ('"b"', "a", '"*"'):
        assert not is_known(unknown, '"a"'), unknown
