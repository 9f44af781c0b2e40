"""Services of the notifier, run for as long as a block."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from deployments.notifications.notifier.announcer import Announcer
from deployments.notifications.notifier.delivery import Deliverer


@asynccontextmanager
async def at_work(service: Announcer | Deliverer) -> AsyncGenerator[None]:
    """While the block runs, a service does its work."""
    work = asyncio.create_task(service.run())
    try:
        yield
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
