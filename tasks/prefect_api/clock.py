"""The time on the server's clock, which decides when a run is due."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from prefect.client.orchestration import PrefectClient

# HTTP's header Date is rounded down, and the server writes it anew once a second, later while busy.
_STALE = timedelta(seconds=3)


async def server_time(client: PrefectClient) -> datetime:
    """Return the server's time, up to 3 s fast; this host's time where the answer has no `Date`.

    Never slow, so that a job that was just submitted is due. This host's clock may be minutes off.
    """
    response = await client.request("GET", "/health")
    date = response.headers.get("date")
    return parsedate_to_datetime(date) + _STALE if date else datetime.now(UTC)


class ServerClock:
    """The server's time, as far as this host's clock and the last measurement tell.

    A clock that is wrong by less than 3 s counts as right: HTTP's dates are no more exact.
    """

    def __init__(self) -> None:
        self.ahead = timedelta()
        """How far this host's clock is ahead of the server's; negative where it is behind."""

    def measure(self, date: str | None) -> None:
        """Compare this host's clock with the header `Date` of an answer that came just now."""
        if date:
            ahead = datetime.now(UTC) - parsedate_to_datetime(date)
            self.ahead = ahead if abs(ahead) > _STALE else timedelta()

    def now(self) -> datetime:
        """The time on the server's clock."""
        return datetime.now(UTC) - self.ahead
