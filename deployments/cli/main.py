"""The entry point: which commands there are, and how an error is told."""

import sys

import httpx
from cyclopts import App
from pydantic import ValidationError

from deployments.cli import analytics, jobs, notifications, operate
from deployments.cli.console import err
from deployments.server import unavailable
from tasks.errors import PrefectureError

app = App(name="prefecture", help="Compute infrastructure on Prefect.", version_flags=[])
for command in (
    operate.up,
    operate.apply,
    operate.work,
    operate.supervise,
    operate.status,
    operate.scale,
    jobs.submit,
    jobs.submit_many,
    jobs.watch,
    jobs.cancel,
    jobs.restart,
    jobs.delete,
    jobs.results,
    notifications.inbox,
    notifications.notify,
    analytics.stats,
    analytics.platform,
    operate.image,
    operate.demo,
):
    app.command(command)


def main() -> None:
    """Run a command: an error of ours is one line on stderr and exit code 1."""
    try:
        app()
    except PrefectureError as error:
        _fail(str(error))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        setting = str(first["loc"][0]).upper().removeprefix("PREFECTURE_")  # which an alias has
        _fail(f"setting PREFECTURE_{setting}: {first['msg']}")
    except httpx.HTTPError as error:
        _fail(str(unavailable(error)))


def _fail(message: str) -> None:
    err.print(f"prefecture: {message}", markup=False, soft_wrap=True)
    sys.exit(1)
