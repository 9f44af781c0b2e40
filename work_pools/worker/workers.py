"""The two workers: Prefect's own of either type, prompt, and with standby instances."""

import warnings
from typing import Any

from prefect.workers.process import ProcessWorker, ProcessWorkerResult
from prefect_docker.worker import (  # pyright: ignore[reportMissingTypeStubs]
    DockerWorker,
    DockerWorkerResult,
)

from work_pools.worker.fork_servers import ForkServers
from work_pools.worker.prompt import Prompt
from work_pools.worker.standby_containers import Standbys
from work_pools.worker.standby_worker import StandbyWorker

with warnings.catch_warnings():
    # They take the place of those they extend, in this process: the pools stay of Prefect's types,
    # and Prefect's own workers can serve them beside ours.
    warnings.filterwarnings("ignore", "Type .* has key .* that matches", UserWarning)

    class PromptProcessWorker(Prompt, StandbyWorker, ProcessWorker):  # pyright: ignore[reportIncompatibleVariableOverride]
        """Prefect's process worker, which keeps a fork server for `reuse` jobs unless `standby` is
        0."""

        ended = ProcessWorkerResult

        def __init__(self, *args: Any, standby: int, reuse: int, **kwargs: Any) -> None:
            waiting = ForkServers(reuse) if standby else None
            super().__init__(*args, waiting=waiting, **kwargs)

    class PromptDockerWorker(Prompt, StandbyWorker, DockerWorker):
        """Prefect's Docker worker, which keeps `standby` containers for `reuse` jobs each."""

        ended = DockerWorkerResult

        def __init__(self, *args: Any, standby: int, reuse: int, limit: int, **kwargs: Any) -> None:
            waiting = Standbys(standby, limit, reuse) if standby else None
            super().__init__(*args, waiting=waiting, limit=limit, **kwargs)
