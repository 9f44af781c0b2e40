"""Jobs of a pool that no worker serves: what becomes of their attempts, the test decides."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import State

from deployments.notifications.ledger import Ledger
from deployments.notifications.notifier.detector import Detector
from deployments.notifications.schema import JobEnd
from deployments.notifications.subscribers import Subscriber
from tasks.contracts import ATTEMPT_LABEL, JOB_ID_LABEL, Manifest, PublishedFile, requeue_key
from tasks.settings import Settings

EVERYTHING = Subscriber.model_validate(
    {"name": "all", "to": {"webhook": {"url": "https://example.org", "secret": "secret/key"}}}
)
DIRECTORY = "holiday"


@dataclass
class Jobs:
    """The jobs, and the ledger that their final states go into."""

    client: PrefectClient
    deployment: UUID
    settings: Settings
    ledger: Ledger
    wrote: list[None] = field(default_factory=list[None])

    async def submit_job(
        self,
        job: UUID | None = None,
        attempt: int = 1,
        tags: Iterable[str] = (),
        parameters: dict[str, Any] | None = None,
    ) -> UUID:
        """A job, or a later attempt at it."""
        usual: dict[str, Any] = {"payload": {}, "results_directory": DIRECTORY}
        run = await self.client.create_flow_run_from_deployment(
            self.deployment,
            parameters=parameters or usual,
            tags=tags,
            labels={JOB_ID_LABEL: str(job), ATTEMPT_LABEL: attempt} if job else None,
            idempotency_key=requeue_key(job, attempt) if job else None,
        )
        return run.id

    async def set(self, run: UUID, *states: State[Any]) -> None:
        """Put an attempt into one state after the other."""
        for state in states:
            await self.client.set_flow_run_state(run, state, force=True)

    def publish(self, job: UUID) -> Path:
        """Let the result of a job stand."""
        folder = self.settings.home / "results" / DIRECTORY / str(job)
        folder.mkdir(parents=True)
        now = datetime.now(UTC)
        manifest = Manifest(
            job=job, task="resting", attempt=1, flow_run=job, parameters={}, submitted=now,
            started=now, published=now, summary={},
            files=[PublishedFile(path=name, bytes=5, sha256="0" * 64) for name in ("a", "b")],
        )  # fmt: skip
        (folder / "manifest.json").write_text(manifest.model_dump_json())
        return folder

    def detector(self) -> Detector:
        """One that has just been started."""
        return Detector(self.client, self.ledger, self.settings, lambda: self.wrote.append(None))

    async def end(self, job: UUID, detector: Detector) -> JobEnd:
        """The end of a job, once it has been found."""
        async with asyncio.timeout(240):
            while not await self.ledger.ended([job]):
                await detector.look()
        return (await self.ends())[job]

    async def ends(self) -> dict[UUID, JobEnd]:
        """Every end there is; one for each job."""
        due = await self.ledger.due("all", 1000)
        assert len({end.job for _, end in due}) == len(due)
        return {end.job: end for _, end in due}
