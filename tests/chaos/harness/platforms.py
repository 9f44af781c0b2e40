"""A Prefecture with the compute task `trial` on it."""

import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.storage.results.local_files import RECORDS
from tests.chaos.harness.drill import rest
from tests.chaos.harness.leftovers import orphans, stages
from tests.support.platform import Platform, platform_up, wait_until

# Else a job that crashes every time, or a cancelled one that does not listen, takes minutes.
_SHORT = {"PREFECTURE_REQUEUE_BACKOFF": "1", "PREFECTURE_CANCEL_GRACE": "4"}


@contextmanager
def trial_platform(
    home: Path,
    pool: str,
    settings: Mapping[str, str] | None = None,
    slots: int = 2,
    most: int | None = None,
) -> Generator[Platform]:
    """A Prefecture with the compute task `trial` on it."""
    own = _SHORT | dict(settings or {})
    with platform_up(home, pool, slots, settings=own, most=most) as platform:
        deploy_trial(platform)
        yield platform
        if platform.process.poll() is None:
            wait_until(lambda: not orphans(platform, 0), what="every container is removed")
            wait_until(lambda: not stages(platform, 0), what="every staging folder is removed")


def deploy_trial(platform: Platform) -> None:
    """Put the compute task `trial` on a platform, one deployment for each queue, over the API."""
    folder = platform.inputs / "trial"
    folder.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).with_name("trial.py"), folder)
    gates = platform.results / RECORDS / "gates"
    gates.mkdir(parents=True, exist_ok=True)
    gates.chmod(0o777)  # the user of the containers is another
    flow = rest(platform, "POST", "/flows/", {"name": "trial"})["id"]
    step = {"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}
    for queue in ("high", "normal", "low"):
        body: dict[str, Any] = {
            "name": queue,
            "flow_id": flow,
            "entrypoint": "trial.py:trial",
            "pull_steps": [step],
            "work_pool_name": platform.pool,
            "work_queue_name": queue,
            "parameter_openapi_schema": {"type": "object", "properties": {}},
            "tags": ["trial"],
        }
        rest(platform, "POST", "/deployments/", body)
