"""The gateway and its page: lists, submissions, first paint, events, open pages, files."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from playwright.sync_api import Page

from benchmarks.reading_history import copy_rows
from benchmarks.suite.report import OURS, Row
from benchmarks.suite.server import Server, seconds
from benchmarks.suite.through_gateway.transfers import transfers
from deployments.gateway.users.tokens import USUAL, Scope, Tokens
from tests.support.platform import Platform, pause, platform_up, wait_until
from tests.support.web.chromium import chromium
from tests.support.web.gateway import Gateway, gateway_up

_USER, _TASK, _DIRECTORY = "ann", "find-primes", "bench"
_SHORT, _LONG = {"upper_bound": 100}, {"upper_bound": 10**10}
_PAGE = 50  # jobs that the page shows at first
_WATCHED = 30.0  # seconds
_SETTLED = 5.0  # seconds after which streams that were opened cost no more than usual
_TICKS = os.sysconf("SC_CLK_TCK")  # a second
_USERS = 4  # whose pages are open: each may have a hundred
_SETTINGS = {"PREFECTURE_GATEWAY_RATE": "1000000"}
# Notes in the page when a row gets each state, in milliseconds since 1970.
_NOTES = """() => {
    window.seen = {};
    const look = () => {
        for (const row of document.querySelectorAll("tbody tr")) {
            const name = row.querySelector("a").textContent;
            window.seen[`${name} ${row.querySelector(".badge").className.split(" ")[1]}`] ??= Date.now();
        }
    };
    new MutationObserver(look).observe(document.querySelector("main"), {subtree: true, childList: true,
        attributes: true, attributeFilter: ["class"]});
}"""  # noqa: E501


def gateway(home: Path, jobs: int, pages: int, rounds: int) -> list[Row]:
    """Measure with `jobs` jobs in the list, and with `pages` open pages while two jobs run."""
    home.mkdir(parents=True)
    with (
        platform_up(home / "up", "process") as up,
        gateway_up(up.home, up.api, **_SETTINGS) as gateway,
        gateway.user(_USER) as user,
    ):
        first = UUID(_submit(user, _SHORT, "first"))
        up.completed(first, _DIRECTORY)
        with pause(up):
            copy_rows(up.home / "prefect" / "prefect.db", str(first), jobs - 1)
            rows = _lists(user, Server(up.api), jobs, rounds)
            rows.append(_submissions(user, up, rounds))
        token = Tokens(up.home).add(_USER)
        with chromium(home / "profile") as browser:
            page = browser.new_page()
            page.goto(f"{gateway.url}/")
            page.get_by_label("Your token").fill(token)
            page.get_by_role("button", name="Sign in").click()
            page.locator("tbody tr").first.wait_for()
            rows.append(_paint(page, gateway, jobs, rounds))
            rows.append(_events(page, user, up, rounds))
        rows.append(_open_pages(user, gateway, pages))
        result = up.completed(first, _DIRECTORY)
        rows += transfers(home, gateway, user, first, result, max(3, rounds // 4))
    return rows


def _submit(user: httpx.Client, payload: dict[str, int], name: str) -> str:
    body = {"task": _TASK, "payload": payload, "results_directory": _DIRECTORY, "name": name}
    answer = user.post("/jobs", json=body)
    answer.raise_for_status()
    return str(answer.json()["job"])


def _lists(user: httpx.Client, server: Server, jobs: int, rounds: int) -> list[Row]:
    """A page of the list, and the same runs by Prefect's own API."""
    states = {"state": {"type": {"any_": ["COMPLETED"]}}}
    tags = {"tags": {"all_": [f"user:{_USER}"]}}
    kinds: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("first page", {}, tags),
        ("with a filter", {"state": "completed", "task": _TASK}, tags | states),
    ]
    rows: list[Row] = []
    for what, query, runs in kinds:

        def ours(query: dict[str, Any] = query) -> None:
            found = user.get("/jobs", params=query | {"limit": _PAGE}).json()
            assert (len(found["jobs"]), found["total"]) == (_PAGE, jobs), found["total"]

        def theirs(runs: dict[str, Any] = runs) -> None:
            body = {"flow_runs": runs, "sort": "EXPECTED_START_TIME_DESC", "limit": _PAGE}
            assert len(server.ask("POST", "/flow_runs/filter", body)) == _PAGE
            assert server.ask("POST", "/flow_runs/count", {"flow_runs": runs}) == jobs

        rows.append(
            Row(f"k {what[:1]}", f"{jobs:,} jobs, {what}: target 200 ms", "ms",
                _in_turn({OURS: ours, "Prefect": theirs}, rounds))
        )  # fmt: skip
    return rows


def _submissions(user: httpx.Client, up: Platform, rounds: int) -> Row:
    server, deployment = Server(up.api), up.deployment(f"{_TASK}/normal")
    parameters = {"payload": _SHORT, "results_directory": _DIRECTORY}
    turns = {
        OURS: lambda: _submit(user, _SHORT, "turn"),
        "Prefect": lambda: server.make(deployment, parameters),
    }
    what = "one job is submitted: target 1.2 times Prefect's"
    return Row("k s", what, "ms", _in_turn(turns, rounds), target={"Prefect": 1 / 1.2})


def _in_turn(turns: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Milliseconds that each takes, in turn; a first round is not counted."""
    found: dict[str, list[float]] = {who: [] for who in turns}
    for number in range(rounds + 1):
        for who, act in turns.items():
            began = time.perf_counter()
            act()
            if number:
                found[who].append(1000 * (time.perf_counter() - began))
    return found


def _paint(page: Page, gateway: Gateway, jobs: int, rounds: int) -> Row:
    """From the request of the page to the first job in it, with nothing in the browser's cache."""
    figures: list[float] = []
    session = page.context.new_cdp_session(page)
    session.send(  # pyright: ignore[reportUnknownMemberType]
        "Network.setCacheDisabled", {"cacheDisabled": True}
    )
    for _ in range(rounds):
        page.goto(f"{gateway.url}/", wait_until="commit")
        page.locator("tbody tr").first.wait_for()
        figures.append(page.evaluate("performance.now()"))
    session.detach()
    return Row("k p", f"{jobs:,} jobs, first useful paint: target 1,000 ms", "ms", {OURS: figures})


def _events(page: Page, user: httpx.Client, up: Platform, rounds: int) -> Row:
    """From a change of a job's state, by the server's time, to its row in the page."""
    figures: list[float] = []
    page.evaluate(_NOTES)
    for number in range(rounds):
        name = f"event-{number}"
        job = _submit(user, _SHORT, name)
        row = page.get_by_role("row", name=name)
        row.locator(".badge.completed").wait_for()
        seen = page.evaluate("window.seen")
        states = up.rest("GET", f"/flow_run_states/?flow_run_id={job}").json()
        at = {state["type"].lower(): seconds(state["timestamp"]) for state in states}
        figures += [
            seen[f"{name} {state}"] - 1000 * at[state]
            for state in ("running", "completed")
            if f"{name} {state}" in seen
        ]
    return Row("k e", "a change of a job, in the page: target 300 ms", "ms", {OURS: figures})


def _open_pages(user: httpx.Client, gateway: Gateway, pages: int) -> Row:
    """The share of a core that the gateway takes while two jobs run: with one page, and many."""
    running = [_submit(user, _LONG, f"long-{number}") for number in range(2)]

    def both_run() -> bool:
        states = [user.get(f"/jobs/{job}").json()["job"]["state"] for job in running]
        return states == ["running"] * 2

    try:
        wait_until(both_run, what="both jobs run")
        scopes = (*USUAL, Scope.READ_ALL)  # each page gets the events of both jobs
        tokens = [Tokens(gateway.home).add(f"reader-{n}", scopes) for n in range(_USERS)]
        found = {f"{many} pages": asyncio.run(_share(gateway, tokens, many)) for many in (1, pages)}
    finally:
        for job in running:
            user.post(f"/jobs/{job}/cancel")
    one, many = found.values()
    what = f"CPU of {pages} open pages, two jobs run: target 10 %"
    return Row("k o", what, "%", {OURS: [many], "one page": [one]})


async def _share(gateway: Gateway, tokens: list[str], pages: int) -> float:
    """The share of a core that the gateway takes, in per cent, with so many streams of events."""
    async with AsyncExitStack() as stack:
        for number in range(pages):
            token = tokens[number * _USERS // max(pages, _USERS)]
            await stack.enter_async_context(_listening(gateway, token))
        await asyncio.sleep(_SETTLED)
        before = _cpu(gateway)
        await asyncio.sleep(_WATCHED)
        return 100 * (_cpu(gateway) - before) / _WATCHED


@asynccontextmanager
async def _listening(gateway: Gateway, token: str) -> AsyncGenerator[None]:
    """An open stream of events, which is read as a browser does."""
    headers = {"Authorization": f"Bearer {token}"}
    limits = httpx.Limits(max_connections=None)

    async def read(response: httpx.Response) -> None:
        async for _ in response.aiter_raw():
            pass

    async with (
        httpx.AsyncClient(headers=headers, timeout=None, limits=limits, verify=False) as client,
        client.stream("GET", f"{gateway.url}/v1/events") as response,
    ):
        response.raise_for_status()
        reading = asyncio.create_task(read(response))
        yield
        reading.cancel()


def _cpu(gateway: Gateway) -> float:
    """Seconds of CPU that the gateway has used."""
    fields = Path(f"/proc/{gateway.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
