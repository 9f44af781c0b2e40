"""python -m deployments.notifications: runs the notifier."""

from tasks.runtime.importing import importing

with importing():
    import asyncio
    import contextlib
    import logging
    import signal

    from prefect.client.orchestration import get_client

    from deployments.gateway.old_uploads import UploadsExpiry
    from deployments.notifications.leadership import LeadershipLost, leading
    from deployments.notifications.ledger import open_ledger
    from deployments.notifications.notifier.announcer import Announcer
    from deployments.notifications.notifier.delivery import Deliverer
    from deployments.notifications.notifier.detector import Detector
    from deployments.notifications.notifier.refusals import Refusals
    from deployments.notifications.notifier.releaser import Releaser
    from deployments.retention.results import Expiry
    from tasks.errors import in_short
    from tasks.prefect_api.ending import end_in_time
    from tasks.settings import Settings, get_settings

_log = logging.getLogger("deployments.notifications")


async def notify(settings: Settings) -> None:
    """Deliver notifications until SIGTERM or SIGINT."""
    work = asyncio.create_task(_notify(settings))

    def stop() -> None:
        end_in_time("notifier")
        work.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def _notify(settings: Settings) -> None:
    while True:
        try:
            await _lead(settings)
        except* LeadershipLost as lost:
            reason = in_short(lost.exceptions[0])
            _log.warning("the notification database is lost: waiting for it: %s", reason)


async def _lead(settings: Settings) -> None:
    """Work for as long as no other notifier may."""
    async with (
        leading(settings) as watch_until_lost,
        get_client() as client,
        open_ledger(settings) as ledger,
    ):
        deliverer = Deliverer(client, ledger, settings)
        announcer = Announcer(client, ledger)

        def recorded() -> None:
            announcer.wake()
            deliverer.wake()

        detector = Detector(client, ledger, settings, recorded)
        # Here, since what leads is the one place that exists once.
        expiry, uploads = Expiry(client, settings), UploadsExpiry(client, settings)
        async with asyncio.TaskGroup() as group:
            releaser, refusals = Releaser(client, ledger), Refusals(ledger, settings, recorded)
            for run in (
                *(detector.run, announcer.run, deliverer.run, releaser.run),
                *(refusals.run, expiry.run, uploads.run, watch_until_lost),
            ):
                group.create_task(run())


def main() -> None:
    """Run the notifier, with its log on stderr."""
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(notify(get_settings()))


if __name__ == "__main__":
    main()
