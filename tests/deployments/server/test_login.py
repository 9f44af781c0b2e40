"""The link that logs a browser in: once, for an hour, and by nobody else's making."""

import base64
from collections.abc import AsyncGenerator

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from deployments import login_link
from deployments.login_link import PATH
from deployments.server.login import Login

PASSWORD, UI = "admin:pässword", "http://127.0.0.1:4200"


async def pass_on(_: Request) -> PlainTextResponse:
    return PlainTextResponse("passed on")


@pytest_asyncio.fixture
async def client() -> AsyncGenerator[httpx.AsyncClient]:
    """A client of a server with the page."""
    app = Starlette(routes=[Route("/{any:path}", pass_on)])
    transport = httpx.ASGITransport(app=Login(app, PASSWORD))
    async with httpx.AsyncClient(transport=transport, base_url=UI) as client:
        yield client


def token() -> str:
    return login_link.make(UI, PASSWORD).partition("#")[2]


async def test_a_link_works_once(client: httpx.AsyncClient) -> None:
    first = token()
    answer = await client.post(PATH, content=first)
    assert base64.b64decode(answer.json()["credentials"]).decode() == PASSWORD
    assert answer.headers["cache-control"] == "no-store"
    again = await client.post(PATH, content=first)
    assert again.status_code == 403
    assert "prefecture ui" in again.json()["exception_message"]
    assert (await client.post(PATH, content=token())).is_success


async def test_a_link_works_for_an_hour(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = token()
    later = int(made.partition(".")[0]) + 1
    monkeypatch.setattr(login_link.time, "time", lambda: later)
    assert (await client.post(PATH, content=made)).status_code == 403


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "..",
        login_link.make(UI, "admin:guessed").partition("#")[2],
        "9" + token(),
        token()[:-1],
        token() + "0",
        "ä" * 2000,
    ],
    ids=range(7),
)
async def test_other_links_do_not_work(client: httpx.AsyncClient, forged: str) -> None:
    assert (await client.post(PATH, content=forged)).status_code == 403


async def test_the_page_runs_its_own_script_alone(client: httpx.AsyncClient) -> None:
    answer = await client.get(PATH)
    nonce = answer.headers["content-security-policy"].partition("nonce-")[2].partition("'")[0]
    assert f'<script nonce="{nonce}">' in answer.text
    assert PASSWORD not in answer.text
    assert (await client.get(PATH)).headers != answer.headers
    assert (await client.put(PATH)).status_code == 405
    assert (await client.get("/prefecture/other")).text == "passed on"
