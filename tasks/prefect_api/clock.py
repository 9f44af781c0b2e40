"""The time by the server's clock, which decides when a run is due."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from prefect.client.orchestration import PrefectClient

_RESOLUTION = timedelta(seconds=1)  # of HTTP's header Date, which is rounded down


async def server_time(client: PrefectClient) -> datetime:
    """The time at the server, at most a second late; this host's, where the server says none.

    This host's clock may be minutes off: a job that is submitted now would be due later, by it.
    """
    response = await client.request("GET", "/health")
    date = response.headers.get("date")
    return parsedate_to_datetime(date) + _RESOLUTION if date else datetime.now(UTC)
