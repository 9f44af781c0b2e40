"""The two workers, for containers and processes: Prefect's own, extended."""

import warnings
from typing import Any

from prefect.workers.process import ProcessWorker, ProcessWorkerResult
from prefect_docker.worker import (  # pyright: ignore[reportMissingTypeStubs]
    DockerWorker,
    DockerWorkerResult,
)

from work_pools.worker.containers.engine_broker import EngineBroker
from work_pools.worker.containers.standby_containers import StandbyContainers
from work_pools.worker.gpus import Gpus, with_devices, with_variable
from work_pools.worker.network.internal_network import InternalNetwork
from work_pools.worker.order.fair_share import FairShare
from work_pools.worker.order.low_waits import LowWaits
from work_pools.worker.prefect_internals import SparingPaused, WithoutSubmitting
from work_pools.worker.processes.fork_servers import ForkServers
from work_pools.worker.prompt import Prompt
from work_pools.worker.reading_once import ReadingOnce
from work_pools.worker.run_tokens import RunTokens
from work_pools.worker.standby_worker import StandbyWorker

with warnings.catch_warnings():
    # In this process they replace the workers that they extend: the pools keep Prefect's types, so
    # Prefect's own workers can serve them too.
    warnings.filterwarnings("ignore", "Type .* has key .* that matches", UserWarning)

    class PromptProcessWorker(  # pyright: ignore[reportIncompatibleVariableOverride]
        Prompt,
        Gpus,
        LowWaits,
        FairShare,
        ReadingOnce,
        WithoutSubmitting,
        SparingPaused,
        RunTokens,
        StandbyWorker,
        ProcessWorker,
    ):
        """Prefect's process worker with a fork server, replaced after `reuse` jobs; `standby`: 0
        for none."""

        result_type = ProcessWorkerResult
        assign_gpus = staticmethod(with_variable)

        def __init__(self, *args: Any, standby: int, reuse: int, **kwargs: Any) -> None:
            standbys = ForkServers(reuse) if standby else None
            super().__init__(*args, standbys=standbys, **kwargs)

    class PromptDockerWorker(
        Prompt,
        Gpus,
        LowWaits,
        FairShare,
        ReadingOnce,
        WithoutSubmitting,
        SparingPaused,
        RunTokens,
        InternalNetwork,
        EngineBroker,
        StandbyWorker,
        DockerWorker,
    ):
        """Prefect's Docker worker with `standby` idle containers, each for `reuse` jobs.

        `network`, `reachable`: see InternalNetwork; `broker`: see EngineBroker.
        """

        result_type = DockerWorkerResult
        assign_gpus = staticmethod(with_devices)

        def __init__(self, *args: Any, standby: int, reuse: int, limit: int, **kwargs: Any) -> None:
            standbys = StandbyContainers(standby, limit, reuse) if standby else None
            super().__init__(*args, standbys=standbys, limit=limit, **kwargs)
