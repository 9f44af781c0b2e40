"""A change to a private part of Prefect's workers.

In Prefect 3.9 a worker sets the state of each run to Submitting, between Pending and Running. Here
a job has a standby that is ready, and the state would last for milliseconds: a request before the
job starts, and 4 kB in the server's database, with the event. No setting turns it off.
"""

from prefect.client.schemas.objects import FlowRun

from work_pools.worker.mixin import WorkerMixin


class WithoutSubmitting(WorkerMixin):
    """Makes any of Prefect's workers leave a run Pending until it is Running."""

    async def _propose_submitting_state(self, flow_run: FlowRun) -> None:
        """See BaseWorker, which calls this before it starts a run."""
