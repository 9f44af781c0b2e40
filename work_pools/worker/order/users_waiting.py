"""The runs of each user that wait in a queue, however many wait before them."""

import time
from bisect import bisect_left, insort
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun

from tasks.contracts import user_of
from tasks.prefect_api.pages import PAGE
from work_pools.worker.order.further import is_for_workers, read_waiting

_MOST_PAGES = 5  # pages in one read: the next one goes on
_INTERVAL = 1.0  # seconds between two reads of what is new
_OVERLAP = timedelta(seconds=2)  # two servers may make runs out of order, within this time
_ANEW = 300.0  # seconds between two reads of all: runs may be moved to a place that was read
_ENTRY = 1.0  # seconds that each pick adds to its user's time in the order

Place = tuple[datetime, UUID]


class UsersWaiting:
    """An index by user of the runs that wait in one queue, read on as the queue grows.

    `page`: how many runs it reads at a time.
    """

    def __init__(self, queue: str, page: int = PAGE) -> None:
        self._queue = queue
        self._page = page
        self._places: dict[str, list[Place]] = {}
        self._known: set[UUID] = set()
        self._end: datetime | None = None
        self._is_complete = False
        self._read = -_INTERVAL
        self._read_anew = 0.0

    async def read(self, client: PrefectClient, pool: str, until: datetime) -> None:
        """Read the runs that have come since the last time, at most five pages."""
        now = time.monotonic()
        if self._is_complete and now - self._read < _INTERVAL:
            return
        if self._is_complete and now - self._read_anew >= _ANEW:
            self._end, self._is_complete = None, False
        if self._end is None:
            self._read_anew = now
        place = self._end and self._end - (_OVERLAP if self._is_complete else timedelta())
        for _ in range(_MOST_PAGES):
            runs = await read_waiting(client, pool, self._queue, place, until, self._page)
            for run in runs:
                self._add(run)
            last = runs[-1].next_scheduled_start_time if runs else place
            self._is_complete = len(runs) < self._page or last == place
            place = last
            if self._is_complete:
                break
        if place is not None:
            self._end = max(place, self._end or place)
        self._read = time.monotonic()

    def begin_at(self, run: FlowRun) -> None:
        """Forget the runs before the one that waits in front of the queue."""
        due = run.next_scheduled_start_time
        if due is None:
            return
        for user, places in [*self._places.items()]:
            gone = bisect_left(places, due, key=lambda place: place[0])
            self._known -= {id for _, id in places[:gone]}
            del places[:gone]
            if not places:
                del self._places[user]

    def forget(self, runs: Collection[UUID]) -> None:
        """Forget runs that do not wait."""
        for user, places in [*self._places.items()]:
            self._places[user] = [place for place in places if place[1] not in runs]
            if not self._places[user]:
                del self._places[user]
        self._known -= {*runs}

    def put_back(self, run: FlowRun) -> bool:
        """Whether a run waits at its known place. If not, note the place that it has now."""
        places = self._places.get(user_of(run.tags) or "", [])
        if (run.next_scheduled_start_time, run.id) in places:
            return True
        self.forget([run.id])  # it was held, and released
        self._add(run)
        return False

    @property
    def users(self) -> int:
        """How many users have runs that wait."""
        return len(self._places)

    def pick(self, number: int, used: Mapping[str, float], held: Collection[UUID]) -> list[UUID]:
        """The runs that are to start next: of the user who has used least, the first.

        `used`: seconds, by user. `held`: runs that are not to be picked.
        """
        return fair_order(
            {
                user: [(due, id) for due, id in places[: number + len(held)] if id not in held]
                for user, places in self._places.items()
            },
            used,
        )[:number]

    def _add(self, run: FlowRun) -> None:
        due = run.next_scheduled_start_time
        if due is None or run.id in self._known or not is_for_workers(run):
            return
        self._known.add(run.id)
        insort(self._places.setdefault(user_of(run.tags) or "", []), (due, run.id))


def fair_order(waiting: Mapping[str, list[Place]], used: Mapping[str, float]) -> list[UUID]:
    """Runs in the order in which they are to start: next is the user who has used least, of two the
    one whose run was due first. The runs of one user keep their order."""
    left = {user: list(reversed(places)) for user, places in waiting.items() if places}
    seconds = dict(used)
    order: list[UUID] = []
    while left:
        user = min(left, key=lambda each: (seconds.get(each, 0.0), left[each][-1]))
        order.append(left[user].pop()[1])
        seconds[user] = seconds.get(user, 0.0) + _ENTRY
        if not left[user]:
            del left[user]
    return order
