"""The worker for the pool `ecs`: Prefect's own, extended."""

import warnings
from typing import Any, Self

from prefect_aws.workers.ecs_worker import (  # pyright: ignore[reportMissingTypeStubs]
    ECSWorker,
)

from work_pools.worker.ecs.following import Following
from work_pools.worker.ecs.sizes import Sizes
from work_pools.worker.order.fair_share import FairShare
from work_pools.worker.order.low_waits import LowWaits
from work_pools.worker.prefect_internals import SparingPaused, WithoutSubmitting
from work_pools.worker.prompt import Prompt
from work_pools.worker.reading_once import ReadingOnce
from work_pools.worker.run_tokens import RunTokens

with warnings.catch_warnings():
    # In this process it replaces the worker that it extends: the pool keeps Prefect's type.
    warnings.filterwarnings("ignore", "Type .* has key .* that matches", UserWarning)

    class PromptEcsWorker(  # pyright: ignore[reportIncompatibleVariableOverride]
        Prompt,
        LowWaits,
        FairShare,
        ReadingOnce,
        WithoutSubmitting,
        SparingPaused,
        RunTokens,
        Sizes,
        Following,
        ECSWorker,
    ):
        """Prefect's ECS worker, which leaves crashes to the supervisor."""

        shares_offer = False  # each job is a machine of its own

        async def __aenter__(self) -> Self:
            """See BaseWorker. Prefect's starts an observer here, which finds crashes by events in
            an SQS queue that there must be; the supervisor needs none."""
            return await super(ECSWorker, self).__aenter__()

        async def __aexit__(self, *exc_info: Any) -> None:
            """See BaseWorker."""
            await super(ECSWorker, self).__aexit__(*exc_info)
