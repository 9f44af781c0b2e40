"""python -m deployments.notifications: runs the notifier."""

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
    from tasks.settings import Settings, get_settings, make_home

_RETRY_LOCK = 1.0  # seconds between two attempts to take the lock
_log = logging.getLogger("deployments.notifications")


async def notify(settings: Settings) -> None:
    """Deliver notifications until SIGTERM or SIGINT."""
    work = asyncio.create_task(_notify(settings))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, work.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def _notify(settings: Settings) -> None:
    async with _locked(settings.home), get_client() as client, open_ledger(settings) as ledger:
        deliverer = Deliverer(client, ledger, settings)
        announcer = Announcer(client, ledger)

        def recorded() -> None:
            announcer.wake()
            deliverer.wake()

        detector = Detector(client, ledger, settings, recorded)
        async with asyncio.TaskGroup() as group:
            for part in (detector, announcer, deliverer):
                group.create_task(part.run())


@asynccontextmanager
async def _locked(home: Path) -> AsyncGenerator[None]:
    """Hold the lock of the home: two notifiers would deliver everything twice."""
    make_home(home)
    with (home / "notifier.lock").open("w") as file:
        logged = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not logged:
                    _log.info("another notifier has the home %s: waiting until it exits", home)
                logged = True
                await asyncio.sleep(_RETRY_LOCK)
        yield


def main() -> None:
    """Run the notifier, with its log on stderr."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(notify(get_settings()))


if __name__ == "__main__":
    main()
