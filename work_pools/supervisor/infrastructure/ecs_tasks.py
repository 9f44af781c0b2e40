"""The tasks of attempts in a cluster of Amazon ECS, by their ARNs."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from tasks.contracts import ECS_FAMILY
from tasks.errors import EngineUnavailable
from tasks.prefect_api.ecs import ECS_PAGE, EcsCluster, container_of, has_ended
from work_pools.supervisor.infrastructure.instance import Exit, Found, Instance
from work_pools.supervisor.infrastructure.threads import in_thread

_KIND = ("prefecture", "job")  # the tag of a task, from the pool's template
_RUN, _WORKER = "prefect.io/flow-run-id", "prefect.io/worker-name"  # tags, set by Prefect's worker
_ENDED = 60.0  # seconds between two lists of tasks that have ended: ECS keeps them for an hour
_LOOK = 1.0  # seconds between two looks at a task that is being stopped
_LATE = 60.0  # seconds that ECS may need to stop a task, beyond its grace
_MIB = 2**20
_Task = dict[str, Any]


class EcsTasks:
    """The tasks of jobs in one cluster, started by any worker. As they are on no host, one
    supervisor looks after all of them."""

    def __init__(self, cluster: EcsCluster) -> None:
        self._cluster = cluster
        self._finding = threading.Lock()
        self._alive: set[str] = set()  # ARNs
        self._ended: dict[str, Instance | None] = {}  # by ARN: cached, as they do not change
        self._removed: set[str] = set()  # ARNs of those that ECS itself forgets
        self._seen: dict[str, datetime] = {}  # when each was first seen, by ARN
        self._listed_ended = -_ENDED

    async def find(self) -> Found:
        """See Instances."""
        return await asyncio.to_thread(self._find)

    async def stop(self, instance: Instance, grace: float) -> None:
        """See Instances. The grace is that of the task's definition, made by `prefecture apply`."""
        await in_thread(self._stop, instance.id)
        deadline = time.monotonic() + grace + _LATE
        while time.monotonic() < deadline:
            tasks = await in_thread(self._describe, [instance.id])
            if all(has_ended(task) for task in tasks):
                return
            await asyncio.sleep(_LOOK)
        raise EngineUnavailable(f"ECS has not stopped {instance.id} yet")

    async def remove(self, instance: Instance) -> None:
        """See Instances. ECS itself removes a task some time after its end."""
        if instance.alive:
            await in_thread(self._stop, instance.id)
        self._removed.add(instance.id)

    async def built(self) -> Mapping[UUID, str]:
        """See Instances: ECS builds no images."""
        return {}

    async def remove_image(self, name: str) -> None:
        """See Instances."""

    async def exits(self) -> AsyncIterator[None]:
        """See Instances: without a queue for its events, ECS reports no exit."""
        yield
        await asyncio.get_running_loop().create_future()

    async def close(self) -> None:
        """See Instances."""

    def check(self) -> None:
        """Raise EngineUnavailable where ECS does not answer, or has no such cluster."""
        self._cluster.check()

    def _stop(self, arn: str) -> None:
        self._cluster.call("stop_task", task=arn, reason="stopped by Prefecture")

    def _find(self) -> Found:
        with self._finding:
            # The running ones first: a task that ends meanwhile is in both lists, not in neither.
            listed = {*self._list("RUNNING")}
            now = time.monotonic()
            if now - self._listed_ended >= _ENDED:
                ended = {*self._list("STOPPED")}
                self._ended = {arn: one for arn, one in self._ended.items() if arn in ended}
                self._removed &= listed | ended
                listed |= ended
                self._listed_ended = now
            # Those that were alive the last time, too: they may have ended since.
            wanted = (listed | self._alive) - self._ended.keys()
            tasks = self._describe(wanted)
            self._seen = {arn: self._seen.get(arn, datetime.now(UTC)) for arn in wanted}
            alive = dict[str, Instance]()
            for task in tasks:
                arn = str(task["taskArn"])
                instance = _instance(task, self._seen[arn])
                if has_ended(task):
                    self._ended[arn] = instance
                elif instance is not None:
                    alive[arn] = instance
            self._alive = {*alive}
            found: dict[UUID, list[Instance]] = {}
            for arn, instance in {**self._ended, **alive}.items():
                if instance is not None and arn not in self._removed:
                    found.setdefault(instance.run, []).append(instance)
            return found

    def _list(self, status: str) -> Iterable[str]:
        after = dict[str, str]()
        while True:
            page = self._cluster.call(
                "list_tasks", family=ECS_FAMILY, desiredStatus=status, maxResults=ECS_PAGE, **after
            )
            yield from map(str, page["taskArns"])
            if not page.get("nextToken"):
                return
            after = {"nextToken": page["nextToken"]}

    def _describe(self, arns: Iterable[str]) -> list[_Task]:
        wanted, found = sorted(arns), list[_Task]()
        for start in range(0, len(wanted), ECS_PAGE):
            some = wanted[start : start + ECS_PAGE]
            found += self._cluster.call("describe_tasks", tasks=some, include=["TAGS"])["tasks"]
        return found


def _instance(task: _Task, seen: datetime) -> Instance | None:
    """The instance of a task; None where it is no job."""
    tags = {str(tag["key"]): str(tag.get("value", "")) for tag in task.get("tags", ())}
    if tags.get(_KIND[0]) != _KIND[1]:
        return None
    with suppress(ValueError):
        run, arn, worker = UUID(tags.get(_RUN, "")), str(task["taskArn"]), tags.get(_WORKER)
        if has_ended(task):
            return Instance(run, arn, False, task.get("stoppedAt") or seen, worker, _exit_of(task))
        return Instance(run, arn, True, task.get("createdAt") or seen, worker)
    return None  # not ours, in spite of its tag


def _exit_of(task: _Task) -> Exit:
    own = container_of(task)
    reason = str(own.get("reason", ""))
    return Exit(
        code=own.get("exitCode"),
        out_of_memory="OutOfMemory" in reason,
        limit=int(task.get("memory") or 0) * _MIB,
        stopped=": ".join(each for each in (str(task.get("stoppedReason", "")), reason) if each),
    )
