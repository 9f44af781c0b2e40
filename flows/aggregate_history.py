"""aggregate-history: updates the run history in SQL."""

from prefect.client.orchestration import get_client

from tasks.history.own_runs import tidy_own_runs
from tasks.history.update import update_history
from tasks.runtime.platform_flow import platform_flow
from tasks.settings import get_settings


@platform_flow("aggregate-history")
async def aggregate_history() -> str:
    """Read new and changed attempts from the server, and recount the periods that they affect.

    Scheduled every minute. Idempotent, also where two runs overlap.
    """
    async with get_client() as client:
        await tidy_own_runs(client)
        done = await update_history(client, get_settings())
    return f"{done.new:,} of {done.read:,} attempts were new" + (
        "" if done.all else "; there are more, which the next pass reads"
    )
