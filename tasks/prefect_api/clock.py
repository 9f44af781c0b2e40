"""The time on the server's clock, which decides when a run is due."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from prefect.client.orchestration import PrefectClient

_RESOLUTION = timedelta(seconds=1)  # of HTTP's header Date, which is rounded down


async def server_time(client: PrefectClient) -> datetime:
    """Return the server's time, at most 1 s off; this host's time where the answer has no `Date`.

    This host's clock may be minutes off: by it, a job submitted now could be due later.
    """
    response = await client.request("GET", "/health")
    date = response.headers.get("date")
    return parsedate_to_datetime(date) + _RESOLUTION if date else datetime.now(UTC)
