"""Jobs named by the first characters of their ids, among many runs, in few requests."""

import random
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import PrefectClient

from deployments.jobs.queries.prefixes import short_ids
from deployments.jobs.queries.short_ids import resolve_job
from tasks.contracts import JOB_ID_LABEL
from tasks.errors import InvalidPayload


class Server:
    """Flow runs, sorted by id as the API does it."""

    def __init__(self, ids: list[UUID], pools: dict[UUID, str] | None = None) -> None:
        self.labels: dict[UUID, dict[str, str]] = {}
        self.ids = sorted(ids, key=str, reverse=True)
        self.pools = pools or {}
        self.requests = 0

    async def read_flow_runs(self, *, sort: Any, offset: int, limit: int) -> list[Any]:
        assert sort.value == "ID_DESC"
        assert limit <= 200
        self.requests += 1
        return [
            SimpleNamespace(
                id=id, labels=self.labels.get(id, {}), work_pool_name=self.pools.get(id, "docker")
            )
            for id in self.ids[offset : offset + limit]
        ]


async def resolve(server: Server, text: str) -> UUID:
    return await resolve_job(cast(PrefectClient, server), text)


@pytest.mark.parametrize("count", [1, 150, 200, 201, 10_000])
async def test_each_run_is_found_in_few_requests(count: int) -> None:
    server = Server([uuid4() for _ in range(count)])
    for id in {server.ids[0], server.ids[-1], *random.sample(server.ids, min(count, 50))}:
        server.requests = 0
        assert await resolve(server, str(id)[:13]) == id
        assert server.requests <= 20


@pytest.mark.parametrize("count", [3, 500])
async def test_many_of_the_same_time_are_all_candidates(count: int) -> None:
    same = [UUID(f"01a22581-7ec2-7{n:03x}-a862-1e63a2fef4a1") for n in range(count)]
    server = Server([*same, *(uuid4() for _ in range(300))])
    with pytest.raises(InvalidPayload, match="give more digits") as refused:
        await resolve(server, "01a22581-7ec2")
    listed = str(refused.value).count("01a22581-7ec2-7")
    more = 0 if count == 3 else int(str(refused.value).split(" and ")[1].split()[0])
    assert listed + more == count
    assert await resolve(server, str(same[1])[:18]) == same[1]


async def test_whole_id_is_not_looked_up() -> None:
    server = Server([])
    id = uuid4()
    assert await resolve(server, str(id)) == await resolve(server, id.hex) == id
    assert server.requests == 0


async def test_attempts_at_one_job_are_not_ambiguous() -> None:
    first, second = UUID(f"{'a' * 31}1"), UUID(f"{'a' * 31}2")
    server = Server([first, second])
    server.labels[second] = {JOB_ID_LABEL: str(first)}
    assert await resolve(server, "aaaaaaaa-aaaa") == first


async def test_run_of_another_pool_is_no_job() -> None:
    job, other = UUID(f"{'b' * 31}1"), UUID(f"{'b' * 31}2")
    assert await resolve(Server([job, other], {other: "platform"}), "bbbb") == job
    with pytest.raises(InvalidPayload, match="no job's id begins with"):
        await resolve(Server([other], {other: "platform"}), "bbbb")


@pytest.mark.parametrize("text", ["", "abc", "job", "12345-xyz", "g" * 36, "a" * 600_000])
async def test_text_that_is_no_id_is_refused_in_short(text: str) -> None:
    with pytest.raises(InvalidPayload, match="is not a job id") as refused:
        await resolve(Server([]), text)
    assert len(str(refused.value)) < 250


def test_short_ids_tell_all_apart() -> None:
    ids = [uuid4() for _ in range(200)]
    ids += [UUID(f"01a22581-7ec2-7b6e-a86{n}-1e63a2fef4a1") for n in range(10)]
    short = short_ids(ids)
    assert len(set(short.values())) == len(ids)
    for id, text in short.items():
        assert [other for other in ids if str(other).startswith(text)] == [id]
