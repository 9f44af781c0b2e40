"""Workers that look for runs at the same moment find them one after the other."""

import asyncio

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from deployments.server.looks import Looks

LOOK = "/api/work_pools/{pool}/get_scheduled_flow_runs"


async def test_one_look_at_a_time_whatever_becomes_of_it() -> None:
    now, most = 0, 0
    both = asyncio.Barrier(2)

    async def look(request: Request) -> Response:
        nonlocal now, most
        now += 1
        most = max(most, now)
        try:
            for _ in range(3):
                await asyncio.sleep(0)
            if request.path_params["pool"] == "broken":
                raise RuntimeError
            return PlainTextResponse()
        finally:
            now -= 1

    async def other(_: Request) -> Response:
        await both.wait()
        return PlainTextResponse()

    routes = [Route(LOOK, look, methods=["POST"]), Route("/api/work_pools/jobs", other)]
    served = httpx.ASGITransport(Looks(Starlette(routes=routes)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=served, base_url="http://server") as client:
        pools = ["broken", "jobs", "broken", "jobs", "jobs"]
        asked = [client.post(LOOK.format(pool=pool)) for pool in pools]
        read = [client.get("/api/work_pools/jobs") for _ in range(2)]
        answers = await asyncio.gather(*asked, *read)
    assert [answer.status_code for answer in answers] == [500, 200, 500, 200, 200, 200, 200]
    assert most == 1
