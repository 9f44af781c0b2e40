"""Short job ids: the first characters of an id, as git abbreviates commits."""

import re
from collections.abc import Iterable
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort

from deployments.jobs.request import cut
from tasks.contracts import Pool, job_id
from tasks.errors import InvalidPayload
from tasks.prefect_api.pages import PAGE

SHORTEST = 4
"""The minimum number of digits of a prefix."""

_SLACK = 20  # runs that may be deleted during the search
_USUAL = {4: 8, 7: 18}  # characters by UUID version: version 7 begins with the time
_NAMED = 5  # candidates in a message


async def resolve_job(client: PrefectClient, text: str) -> UUID:
    """The id that `text` names: a whole id, or an unambiguous prefix of a job's or attempt's id.

    A whole id is returned without a query. Raises InvalidPayload where `text` is no prefix, and
    where it matches no job or several.
    """
    try:
        return UUID(text)
    except ValueError:
        prefix = _prefix(text)
    jobs = {
        job_id(run.labels, run.id): None
        for run in await _runs_with(client, prefix)
        if run.work_pool_name in set(Pool)
    }
    if not jobs:
        raise InvalidPayload(f"no job's id begins with '{text}': `prefecture jobs` lists them")
    if len(jobs) > 1:
        some = ", ".join(map(str, list(jobs)[:_NAMED]))
        more = f" and {len(jobs) - _NAMED} more" if len(jobs) > _NAMED else ""
        raise InvalidPayload(f"'{text}' begins the ids of {some}{more}: give more digits")
    return next(iter(jobs))


def short_ids(jobs: Iterable[UUID]) -> dict[UUID, str]:
    """A prefix for each job that is unambiguous among the given jobs."""
    ordered = sorted(map(str, set(jobs)))
    short: dict[UUID, str] = {}
    for before, id, after in zip(["", *ordered], ordered, [*ordered[1:], ""], strict=False):
        usual = _USUAL.get(UUID(id).version or 0, len(id))
        length = max(usual, _common(id, before) + 1, _common(id, after) + 1)
        short[UUID(id)] = id[:length].rstrip("-")
    return short


def _prefix(text: str) -> str:
    """The prefix of an id in the server's notation. Raises InvalidPayload where it is none."""
    digits = text.lower().replace("-", "")
    if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST},31}}", digits):
        raise InvalidPayload(
            f"'{cut(text)}' is not a job id, nor {SHORTEST} or more of its first digits: "
            "`prefecture jobs` shows them"
        )
    whole = str(UUID(digits.ljust(32, "0")))
    hyphens = sum(len(digits) > place for place in (8, 12, 16, 20))
    return whole[: len(digits) + hyphens]


async def _runs_with(client: PrefectClient, prefix: str) -> list[FlowRun]:
    """All flow runs whose ids begin with `prefix`.

    The API has no such filter, but sorts by id, the highest first. A binary search finds the place:
    about twenty requests for a million runs, and one request if the run is among the newest.
    """

    def head(run: FlowRun) -> str:
        return str(run.id)[: len(prefix)]

    async def is_reached(place: int) -> bool:
        runs = await _read(client, place, 1)
        return not runs or head(runs[0]) <= prefix

    page = await _read(client, 0, PAGE)
    start = 0
    if len(page) == PAGE and head(page[-1]) > prefix:
        low, high = PAGE - 1, PAGE
        while not await is_reached(high):
            low, high = high, 4 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if await is_reached(middle) else (middle, high)
        start = max(0, high - _SLACK)
        page = await _read(client, start, PAGE)
    found = [run for run in page if head(run) == prefix]
    while len(page) == PAGE and head(page[-1]) >= prefix:
        start += PAGE
        page = await _read(client, start, PAGE)
        found += (run for run in page if head(run) == prefix)
    return found


async def _read(client: PrefectClient, start: int, limit: int) -> list[FlowRun]:
    return await client.read_flow_runs(sort=FlowRunSort.ID_DESC, offset=start, limit=limit)


def _common(one: str, other: str) -> int:
    """The length of the common prefix of two texts."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
