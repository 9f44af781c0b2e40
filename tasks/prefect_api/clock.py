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
