"""report-usage: publishes a report on the run history, as a page and as artifacts in the UI."""

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
                "description": "Number of days up to now that the report covers.",
            },
        ),
    ] = 7,
) -> str:
    """Publish a report on the last days of the run history in `reports`.

    Scheduled every hour.
    """
    async with get_client() as client:
        receipt = await publish_report(client, get_settings(), days)
    return receipt.location
