"""python -m deployments.notifications: the notifier"""

from tasks.runtime.importing import importing

with importing():
    import asyncio
    import contextlib
    import fcntl
    import logging
    import signal
    from collections.abc import AsyncGenerator
    from contextlib import asynccontextmanager
    from pathlib import Path

    from prefect.client.orchestration import get_client

    from deployments.notifications.ledger import open_ledger
    from deployments.notifications.notifier.announcer import Announcer
    from deployments.notifications.notifier.delivery import Deliverer
    from deployments.notifications.notifier.detector import Detector
    from tasks.settings import Settings, get_settings

_TURN = 1.0  # seconds between two looks whether it is our turn
_log = logging.getLogger("deployments.notifications")


async def notify(settings: Settings) -> None:
    """Tell of ends of jobs until SIGTERM or SIGINT."""
    work = asyncio.create_task(_notify(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def _notify(settings: Settings) -> None:
    async with _alone(settings.home), get_client() as client, open_ledger(settings) as ledger:
        deliverer = Deliverer(client, ledger, settings)
        announcer = Announcer(client, ledger)

        def wrote() -> None:
            announcer.wake()
            deliverer.wake()

        detector = Detector(client, ledger, settings, wrote)
        async with asyncio.TaskGroup() as group:
            for part in (detector, announcer, deliverer):
                group.create_task(part.run())


@asynccontextmanager
async def _alone(home: Path) -> AsyncGenerator[None]:
    """Wait until no other notifier of this home is there: two would deliver everything twice."""
    home.mkdir(parents=True, exist_ok=True)
    with (home / "notifier.lock").open("w") as file:
        waits = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waits:
                    _log.info("another notifier has the home %s: waiting for its end", home)
                waits = True
                await asyncio.sleep(_TURN)
        yield


def main() -> None:
    """Notify, and log to stderr."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(notify(get_settings()))


if __name__ == "__main__":
    main()
