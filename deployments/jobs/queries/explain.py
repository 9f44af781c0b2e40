"""Explains the state of a job: why it waits, its place in the queue, and an estimate."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowFilter, FlowRunFilter, WorkQueueFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound

from deployments.jobs.attempts import decisive_attempt, known_attempts
from deployments.jobs.following import progress_now
from deployments.jobs.queries.estimate import (
    Typical,
    estimate_end,
    estimate_start,
    in_words,
    typical_times,
)
from deployments.jobs.queries.listing import read_task_names, record
from deployments.jobs.queries.pool_state import SECONDS, PoolState, pool_filter, read_pool_state
from deployments.jobs.queries.standings import undone, waits_for
from deployments.jobs.records import Explanation, JobRecord, JobState
from deployments.pools import lacking
from deployments.status import SCHEDULED
from tasks.contracts import USER_TAG, Queue, Resources, resources_asked, user_of
from tasks.prefect_api.briefly import briefly

_LAST = 200  # completed jobs from which typical run times are taken
_NO_SLOT = "AwaitingConcurrencySlot"  # Prefect's state at the concurrency limit of a deployment


async def explain(
    client: PrefectClient, job: UUID, runs: Sequence[FlowRun] | None = None
) -> Explanation:
    """Explain the state of a job. `job` is its id, or that of any attempt at it. `runs`: all its
    attempts, where they have just been read.

    What many jobs share, such as the state of their pool, may be two seconds old. Raises
    InvalidPayload where the server knows no such job.
    """
    run = decisive_attempt(runs or await known_attempts(client, job))
    tasks = await read_task_names(client)
    known = record(run, tasks.get(run.flow_id, "unknown"))
    match known.state:
        case JobState.WAITING:
            return await _explain_waiting(client, run, known)
        case JobState.BLOCKED:
            return Explanation(known, await _blocked_by(client, run), None, None, None)
        case JobState.STARTING | JobState.RUNNING | JobState.CANCELLING:
            return await _explain_running(client, run, known)
        case _:
            return Explanation(known, _other_reasons(known), None, None, None)


def why_it_waits(state: PoolState, name: str, state_name: str, before: int | None) -> list[str]:
    """Why a due job does not start. `name`: its queue's. `before`: as in Explanation."""
    pool = state.pool
    reasons: list[str] = []
    if pool.is_paused:
        holding = [a.report for a in state.agents if a.report.holds_intake]
        found = [
            f"{check} on {report.host}: {what}"
            for report in holding
            if report.pool == pool.name
            for check, what in sorted(report.failed.items())
        ]
        reasons.append(
            f"the pool {pool.name} is paused by its agents until this is cured: {'; '.join(found)}"
            if found
            else f"the pool {pool.name} is paused: resume it with `prefect work-pool resume "
            f"{pool.name}`"
        )
    if state.queue is not None and state.queue.is_paused:
        reasons.append(
            f"the queue {name} is paused: resume it with `prefect work-queue resume {name} "
            f"--pool {pool.name}`"
        )
    if name not in set(Queue):
        reasons.append(
            f"it is in the queue '{name}', which is none of {', '.join(Queue)}: all others come "
            "first"
        )
    if not state.online:
        gone = f"; {state.offline} have been" if state.offline else ""
        reasons.append(
            f"no worker serves the pool {pool.name} now{gone}: start one with `prefecture work`"
        )
    elif state.drained >= state.online:
        reasons.append(
            f"every host of the pool {pool.name} is drained: let one take jobs again with "
            "`prefecture drain HOST --undo`"
        )
    if state.unfit:
        reasons.append(state.unfit)
    if pool.concurrency_limit == 0:
        reasons.append("no job may run at once: `prefecture scale` was called with 0")
    elif pool.concurrency_limit is not None and len(state.running) >= pool.concurrency_limit:
        reasons.append(
            f"{len(state.running)} jobs run on the pool {pool.name}, as many as `prefecture scale` "
            "allows"
        )
    if state_name == _NO_SLOT:
        reasons.append("its deployment has a concurrency limit, which is met")
    if not reasons:
        reasons.append(_busy(state, before))
    return reasons


def may_start(state: PoolState) -> bool:
    """Whether a job can start with nobody doing anything about its pool, its queue or a host."""
    is_paused = state.pool.is_paused or (state.queue is not None and state.queue.is_paused)
    return state.online > state.drained and not is_paused and not state.unfit


def in_fair_order(before: int, own: int | None, queue: str) -> str:
    """What the place of a job means where users share its queue. `own`: how many of the jobs
    before it are of the same user; None where it has no user."""
    same = "" if own is None else f", {own:,} of them of the same user,"
    return (
        f"users share the queue {queue}: of the {before:,} before it{same} those of others may "
        "start later than it, and those of others behind it sooner"
    )


def _busy(state: PoolState, before: int | None) -> str:
    if before:
        return (
            f"{_jobs(before)} served before it, and {_jobs(len(state.running))} running on the "
            f"pool {state.pool.name}"
        )
    if state.running:
        return (
            f"it is next: {_jobs(len(state.running))} running on the pool {state.pool.name}, and "
            "it starts when a slot is free"
        )
    return "it is next: a worker takes it within seconds"


def _jobs(number: int) -> str:
    return "1 job is" if number == 1 else f"{number:,} jobs are"


def _other_reasons(job: JobRecord) -> list[str]:
    match job.state:
        case JobState.SCHEDULED:
            return ["it is not due yet"]
        case JobState.HELD:
            return ["it is held: `prefecture release` lets it start"]
        case JobState.CRASHED:
            return [
                f"attempt {job.attempt} has crashed ({job.reason}); its supervisor runs it again"
            ]
        case JobState.COMPLETED:
            return []
        case _:
            return [job.reason or "no reason was given"]


async def _blocked_by(client: PrefectClient, run: FlowRun) -> list[str]:
    """The jobs that a job waits for, and that have not ended yet."""
    named = await undone(client, run)
    return [waits_for(named) or "the jobs that it waits for have ended: it enters its queue"]


async def _explain_waiting(client: PrefectClient, run: FlowRun, job: JobRecord) -> Explanation:
    before = (await progress_now(client, run)).ahead
    state = await _pool_state(client, run)
    if state is None:
        gone = f"its pool '{run.work_pool_name}' is gone: `prefecture apply` makes the pools"
        return Explanation(job, [gone], before, None, None)
    reasons = why_it_waits(state, job.queue, run.state_name or "", before)
    due = run.next_scheduled_start_time
    if due is not None and due > datetime.now(UTC):
        # After a crash: a job that is scheduled for later does not wait yet.
        pause = in_words((due - datetime.now(UTC)).total_seconds())
        reasons.insert(0, f"attempt {job.attempt - 1} has crashed; the next one is due in {pause}")
    shared = ""
    if before and state.is_fair and job.queue == Queue.NORMAL:
        shared = in_fair_order(before, await _own_before(client, run, due), job.queue)
        reasons.append(shared)
    estimate = None
    if state.slots and before is not None and may_start(state):
        pool = state.pool.name
        typical = await _typical(client, pool)
        waiting = await _waiting(client, pool, job.queue, frozenset({*typical, job.task}))
        estimate = estimate_start(before, waiting, state.running, state.slots, typical)
    if estimate is not None and shared:
        basis = f"{estimate.basis}; sooner or later, as users share the queue"
        estimate = replace(estimate, basis=basis)
    return Explanation(job, reasons, before, None, estimate)


async def _explain_running(client: PrefectClient, run: FlowRun, job: JobRecord) -> Explanation:
    if job.state is JobState.STARTING:
        return Explanation(job, ["a worker has taken it, and starts it"], None, 0.0, None)
    if job.state is JobState.CANCELLING:
        return Explanation(job, ["its cancellation was requested"], None, None, None)
    progress = await progress_now(client, run)
    began = run.state.timestamp if run.state is not None else run.start_time
    ran = (datetime.now(UTC) - began).total_seconds() if began is not None else job.ran
    typical = {} if progress.fraction else await _typical(client, run.work_pool_name or "")
    return Explanation(
        job,
        [progress.text or f"it has run for {in_words(ran)}"],
        None,
        progress.fraction,
        estimate_end(progress.fraction, ran, job.task, typical),
    )


async def _own_before(client: PrefectClient, run: FlowRun, due: datetime | None) -> int | None:
    """How many jobs of the same user wait in the queue of a run, and were submitted before it.

    None where it has no user.
    """
    user = user_of(run.tags)
    if user is None or due is None:
        return None
    count = await client.count_flow_runs(
        work_pool_filter=pool_filter(run.work_pool_name or ""),
        work_queue_filter=WorkQueueFilter.model_validate({"name": {"any_": [run.work_queue_name]}}),
        flow_run_filter=FlowRunFilter.model_validate(
            {
                "tags": {"all_": [f"{USER_TAG}{user}"]},
                "state": {"type": {"any_": SCHEDULED}},
                "next_scheduled_start_time": {"before_": due},
            }
        ),
    )
    return max(0, count - 1)  # the run itself


async def _pool_state(client: PrefectClient, run: FlowRun) -> PoolState | None:
    """The state of the pool that a job waits in; None where it is gone."""
    if run.work_pool_name is None:
        return None
    found = await read_pool_state(client, run.work_pool_name)
    if found is None:
        return None
    queue = found.queues.get(run.work_queue_name or "")
    return replace(found, queue=queue, unfit=await _unfit(client, run, found.offers))


async def _unfit(
    client: PrefectClient, run: FlowRun, offers: Mapping[str, Resources | None]
) -> str:
    """What a job asks for that no worker offers; empty where one may take it."""
    variables = [run.job_variables or {}]
    if run.deployment_id is not None:
        try:
            deployment = await _deployment(client, run.deployment_id)
            variables.insert(0, deployment.job_variables or {})
        except ObjectNotFound:
            return ""
    asked = resources_asked(variables, run.parameters.get("payload"))
    return lacking(asked, offers) if asked != Resources() and offers else ""


@briefly(SECONDS)
async def _deployment(client: PrefectClient, id: UUID) -> DeploymentResponse:
    return await client.read_deployment(id)


@briefly(SECONDS)
async def _typical(client: PrefectClient, pool: str) -> dict[str, Typical]:
    """How long jobs of each task take on a pool."""
    tasks = await read_task_names(client)
    completed = await client.read_flow_runs(
        work_pool_filter=pool_filter(pool),
        flow_run_filter=FlowRunFilter.model_validate(
            {"state": {"type": {"any_": [StateType.COMPLETED]}}}
        ),
        sort=FlowRunSort.END_TIME_DESC,
        limit=_LAST,
    )
    return typical_times(
        (tasks.get(each.flow_id, "unknown"), each.total_run_time.total_seconds())
        for each in completed
    )


@briefly(SECONDS)
async def _waiting(
    client: PrefectClient, pool: str, queue: str, tasks: frozenset[str]
) -> dict[str, int]:
    """Number of waiting jobs per task, in a queue of a pool and in more urgent queues."""
    queues = list(Queue)
    names = queues[: queues.index(Queue(queue)) + 1]
    return {
        task: await client.count_flow_runs(
            flow_filter=FlowFilter.model_validate({"name": {"any_": [task]}}),
            work_pool_filter=pool_filter(pool),
            work_queue_filter=WorkQueueFilter.model_validate({"name": {"any_": names}}),
            flow_run_filter=FlowRunFilter.model_validate(
                {
                    "state": {"type": {"any_": SCHEDULED}},
                    "next_scheduled_start_time": {"before_": datetime.now(UTC)},
                }
            ),
        )
        for task in sorted(tasks)
    }
