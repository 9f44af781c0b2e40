"""Changes to private parts of Prefect's workers.

In Prefect 3.9 a worker sets the state of each run to Submitting, between Pending and Running. Here
a job has a standby that is ready, and the state would last for milliseconds: a request before the
job starts, and 4 kB in the server's database, with the event. No setting turns it off.

A worker ends where it claims a run that is Paused, and with it all of its jobs: the server's answer
is a signal to the flow of a run, which no handler of the worker expects. A run that is held may be
Paused after the worker has read its queue.
"""

import logging

from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import Pause

from work_pools.worker.mixin import WorkerMixin

_log = logging.getLogger(__name__)


class WithoutSubmitting(WorkerMixin):
    """Makes any of Prefect's workers leave a run Pending until it is Running."""

    async def _propose_submitting_state(self, flow_run: FlowRun) -> None:
        """See BaseWorker, which calls this before it starts a run."""


class SparingPaused(WorkerMixin):
    """Makes any of Prefect's workers leave a run alone that is Paused."""

    async def _propose_pending_state(self, flow_run: FlowRun) -> bool:
        """See BaseWorker, which calls this to claim a run."""
        try:
            return await super()._propose_pending_state(flow_run)
        except Pause:
            _log.info("%s was held before this worker had claimed it", flow_run.id)
            return False
