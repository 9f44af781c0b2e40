"""What a client is answered while the database or Redis is away."""

from collections.abc import Callable

import httpx
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from deployments.server.outages import Outages


async def answered(fail: Callable[[], Response]) -> httpx.Response:
    """The answer of a server as Prefect's: below another application, 500 for any error."""

    def answer(_: Request) -> Response:
        return fail()

    def error(_: Request, __: Exception) -> Response:
        return JSONResponse({"exception_message": "Internal Server Error"}, 500)

    api = Starlette(routes=[Route("/", answer)], exception_handlers={Exception: error})
    app = Outages(Starlette(routes=[Mount("/api", api)]))
    served = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=served, base_url="http://server") as client:
        return await client.get("/api/")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(111, "Connection refused"),
        TimeoutError(),
        RedisConnectionError("Error 111 connecting"),
        OperationalError("SELECT 1", {}, Exception("gone")),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_outage_is_503(error: Exception) -> None:
    def fail() -> Response:
        raise error

    answer = await answered(fail)
    assert answer.status_code == 503
    # Or a client would try again after the same time, seven times, and give up.
    assert "retry-after" not in answer.headers


async def test_an_error_of_the_servers_own_stays_500() -> None:
    def fail() -> Response:
        raise ValueError("a bug")

    answer = await answered(fail)
    assert (answer.status_code, answer.json()) == (
        500,
        {"exception_message": "Internal Server Error"},
    )


@pytest.mark.parametrize("status", [200, 404, 500, 503])
async def test_what_is_answered_in_order_is_passed_on(status: int) -> None:
    answer = await answered(lambda: PlainTextResponse("text", status))
    assert (answer.status_code, answer.text) == (status, "text")
