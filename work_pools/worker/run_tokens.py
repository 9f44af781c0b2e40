"""A worker whose jobs get a token of their run, and never its own password."""

import logging
from typing import Any

import anyio.abc
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_AUTH_STRING

from tasks.prefect_api import run_tokens
from tasks.prefect_api.authentication import authenticated_as
from tasks.settings import AUTH_VARIABLE
from work_pools.worker.mixin import WorkerMixin

_log = logging.getLogger(__name__)


class RunTokens(WorkerMixin):
    """Makes any of Prefect's workers give each job a token, where the server takes them.

    Prefect's workers copy their own settings, the password among them, into every job.
    """

    _takes_tokens = False

    async def setup(self) -> None:
        """See BaseWorker. Raises httpx.HTTPError where the server does not answer."""
        await super().setup()
        if PREFECT_API_AUTH_STRING.value():
            answer = await self.client.request("GET", "/health")
            self._takes_tokens = run_tokens.HEADER in answer.headers
            if not self._takes_tokens:
                _log.warning(
                    "the server takes no tokens of runs, so jobs get the password of its API: use "
                    "the server of `prefecture up`"
                )

    async def run(
        self,
        flow_run: FlowRun,
        configuration: Any,
        task_status: anyio.abc.TaskStatus[Any] | None = None,
    ) -> Any:
        """See BaseWorker."""
        password = PREFECT_API_AUTH_STRING.value()
        if not password or not self._takes_tokens:
            return await super().run(flow_run, configuration, task_status)  # pyright: ignore[reportAbstractUsage]
        token = run_tokens.make(flow_run.id, password)
        configuration.env[AUTH_VARIABLE] = token
        # Prefect's process worker puts its settings of this moment into the job's environment too.
        with authenticated_as(token):
            return await super().run(flow_run, configuration, task_status)  # pyright: ignore[reportAbstractUsage]
