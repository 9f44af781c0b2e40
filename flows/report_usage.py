"""report-usage: what has been going on, as a page to read and as artifacts in the UI."""

from typing import Annotated

from prefect.client.orchestration import get_client
from pydantic import Field

from tasks.history.reports.publishing import publish_report
from tasks.runtime.platform_flow import platform_flow
from tasks.settings import get_settings


@platform_flow("report-usage")
async def report_usage(
    days: Annotated[
        int,
        Field(
            ge=1,
            le=3660,
            examples=[30],
            json_schema_extra={
                "title": "Days",
                "description": "How many days, up to now, the report is about.",
            },
        ),
    ] = 7,
) -> str:
    """Make a report of the last days out of the run history, and publish it in `reports`.

    Every hour, by itself.
    """
    async with get_client() as client:
        receipt = await publish_report(client, get_settings(), days)
    return receipt.location
