"""The two workers: Prefect's own of either type, prompt, and with some jobs' bodies ahead."""

import warnings
from typing import Any

from prefect.workers.process import ProcessWorker, ProcessWorkerResult
from prefect_docker.worker import (  # pyright: ignore[reportMissingTypeStubs]
    DockerWorker,
    DockerWorkerResult,
)

from work_pools.worker.fork_servers import ForkServers
from work_pools.worker.keeping import KeepsAhead
from work_pools.worker.prompt import Prompt
from work_pools.worker.standbys import Standbys

with warnings.catch_warnings():
    # They take the place of those they extend, in this process: the pools stay of Prefect's types,
    # and Prefect's own workers can serve them beside ours.
    warnings.filterwarnings("ignore", "Type .* has key .* that matches", UserWarning)

    class PromptProcessWorker(Prompt, KeepsAhead, ProcessWorker):  # pyright: ignore[reportIncompatibleVariableOverride]
        """Prefect's process worker, which keeps a fork server for `reuse` jobs unless `ahead` is
        0."""

        ended = ProcessWorkerResult

        def __init__(self, *args: Any, ahead: int, reuse: int, **kwargs: Any) -> None:
            waiting = ForkServers(reuse) if ahead else None
            super().__init__(*args, waiting=waiting, **kwargs)

    class PromptDockerWorker(Prompt, KeepsAhead, DockerWorker):
        """Prefect's Docker worker, which keeps `ahead` containers for `reuse` jobs each."""

        ended = DockerWorkerResult

        def __init__(self, *args: Any, ahead: int, reuse: int, limit: int, **kwargs: Any) -> None:
            waiting = Standbys(ahead, limit, reuse) if ahead else None
            super().__init__(*args, waiting=waiting, limit=limit, **kwargs)
