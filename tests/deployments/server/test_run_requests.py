"""What a run may ask of the API, and what it may not."""

import contextlib
import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from deployments.server.run_requests import Request, Run, is_allowed, is_own_event
from tasks.contracts import JOB_ID_LABEL

OWN, JOB, OTHER, HELPER = uuid4(), uuid4(), uuid4(), uuid4()
FLOW, DEPLOYMENT, HELPERS, QUEUE = uuid4(), uuid4(), uuid4(), uuid4()
ARTIFACT, FOREIGN_ARTIFACT, RESULT_BLOCK, FOREIGN_BLOCK = uuid4(), uuid4(), uuid4(), uuid4()
TASK_RUN, FOREIGN_TASK_RUN = uuid4(), uuid4()
KEY = f"part:{JOB}.{OWN}.1a2b:0-3:0"
RUN = Run(
    id=OWN,
    flow=FLOW,
    deployment=DEPLOYMENT,
    queue="low",
    queue_id=QUEUE,
    pool="docker",
    labels={JOB_ID_LABEL: str(JOB)},
    parameters={
        "payload": {
            "registry_credentials": "docker-registry-credentials/team",
            "secrets": ["api-key"],
        }
    },
    job_variables={"mem_limit": "1g"},
    credentials="aws-credentials/photos",
)


class Server:
    """What the server has, besides the run."""

    async def owner_of_artifact(self, id: UUID) -> UUID | None:
        return {ARTIFACT: OWN, FOREIGN_ARTIFACT: OTHER}.get(id)

    async def key_of_run(self, id: UUID) -> str | None:
        return {HELPER: KEY, OTHER: f"part:{JOB}.{OTHER}.1a2b:0-3:0"}.get(id)

    async def run_of_task_run(self, id: UUID) -> UUID | None:
        return {TASK_RUN: OWN, FOREIGN_TASK_RUN: OTHER}.get(id)

    async def name_of_block(self, id: UUID) -> str | None:
        return {RESULT_BLOCK: "prefecture-results", FOREIGN_BLOCK: "photos"}.get(id)

    async def deployment_named(self, name: str) -> UUID | None:
        return HELPERS if name == "sum-files/parts" else None


def helper(**changes: Any) -> dict[str, Any]:
    wanted = {"idempotency_key": KEY, "job_variables": {"mem_limit": "1g"}}
    return {"work_queue_name": "low", "parameters": {"part": {}}, **wanted, **changes}


def event(name: str, job: UUID) -> dict[str, Any]:
    resource = {"prefect.resource.id": f"prefecture.job.{job}"}
    return {"event": name, "resource": resource, "payload": {}}


def runs(*ids: UUID, **more: Any) -> dict[str, Any]:
    return {"flow_runs": {"id": {"any_": [str(id) for id in ids]}, **more}}


def artifacts(*ids: UUID, **more: Any) -> dict[str, Any]:
    return {"artifacts": {"flow_run_id": {"any_": [str(id) for id in ids]}, **more}}


PROGRESS = "prefecture.job.progress"
SLUG = "/block_types/slug"
ALLOWED: list[tuple[str, str, Any]] = [
    ("GET", "/csrf-token?client=1", None),
    ("GET", f"/flow_runs/{OWN}", None),
    ("POST", f"/flow_runs/{OWN}/set_state", {"state": {"type": "RUNNING"}}),
    ("PATCH", f"/flow_runs/{OWN}", {"flow_version": "1", "empirical_policy": {}}),
    ("PATCH", f"/flow_runs/{OWN}/labels", {"prefecture.image": "debian"}),
    ("GET", f"/flow_run_states/?flow_run_id={OWN}", None),
    ("GET", f"/flows/{FLOW}", None),
    ("GET", f"/deployments/{DEPLOYMENT}", None),
    ("GET", f"/work_queues/{QUEUE}", None),
    ("GET", "/work_pools/docker", None),
    ("POST", "/logs/", [{"flow_run_id": str(OWN), "message": "hello"}]),
    ("POST", "/artifacts/", {"flow_run_id": str(OWN), "data": 1}),
    ("PATCH", f"/artifacts/{ARTIFACT}", {"data": 2}),
    ("POST", "/events", [event(PROGRESS, JOB), event("prefecture.job.started", JOB)]),
    ("GET", f"/block_documents/{RESULT_BLOCK}", None),
    ("GET", f"{SLUG}/s3-bucket/block_documents/name/prefecture-results", None),
    ("GET", f"{SLUG}/aws-credentials/block_documents/name/photos", None),
    ("GET", f"{SLUG}/docker-registry-credentials/block_documents/name/team", None),
    ("GET", f"{SLUG}/secret/block_documents/name/api-key", None),
    ("GET", "/deployments/name/sum-files/parts", None),
    ("POST", f"/deployments/{HELPERS}/create_flow_run", helper()),
    ("GET", f"/flow_runs/{HELPER}", None),
    ("POST", f"/flow_runs/{HELPER}/set_state", {"state": {"type": "CANCELLED"}}),
    ("POST", "/flow_runs/filter", runs(HELPER, HELPER)),
    ("POST", "/artifacts/filter", artifacts(HELPER, type={"any_": ["progress"]})),
]
REFUSED: list[tuple[str, str, Any]] = [
    ("GET", f"{SLUG}/secret/block_documents/name/other-key", None),
    ("GET", f"{SLUG}/secret/block_documents/name/team", None),
    ("GET", f"{SLUG}/aws-credentials/block_documents/name/api-key", None),
    ("GET", f"/flow_runs/{OTHER}", None),
    ("GET", f"/flow_runs/{uuid4()}", None),
    ("DELETE", f"/flow_runs/{OWN}", None),
    ("POST", f"/flow_runs/{OTHER}/set_state", {"state": {"type": "CANCELLED"}}),
    ("PATCH", f"/flow_runs/{OTHER}", {"flow_version": "1"}),
    # A successor would have them.
    ("PATCH", f"/flow_runs/{OWN}", {"job_variables": {"volumes": ["/:/host"]}}),
    ("PATCH", f"/flow_runs/{OWN}", {"flow_version": "1", "parameters": {}}),
    ("PATCH", f"/flow_runs/{OWN}/labels", {"prefecture.image": "debian", JOB_ID_LABEL: "x"}),
    ("PATCH", f"/flow_runs/{HELPER}/labels", {"prefecture.image": "debian"}),
    ("GET", f"/flow_run_states/?flow_run_id={OTHER}", None),
    ("GET", f"/flow_run_states/?flow_run_id={OWN}&flow_run_id={OTHER}", None),
    ("GET", "/flow_run_states/", None),
    ("GET", f"/flows/{uuid4()}", None),
    ("GET", f"/deployments/{HELPERS}", None),
    ("PATCH", f"/deployments/{DEPLOYMENT}", {"paused": True}),
    ("POST", "/deployments/", {"name": "own", "pull_steps": []}),
    ("POST", "/logs/", [{"flow_run_id": str(OWN)}, {"flow_run_id": str(OTHER)}]),
    ("POST", "/logs/", [{"message": "of nobody"}]),
    ("POST", "/logs/filter", {"logs": {}}),
    ("POST", "/artifacts/", {"flow_run_id": str(OTHER), "data": 1}),
    ("POST", "/artifacts/", {"data": 1}),
    ("PATCH", f"/artifacts/{FOREIGN_ARTIFACT}", {"data": 2}),
    ("PATCH", f"/artifacts/{uuid4()}", {"data": 2}),
    ("POST", "/events", [event(PROGRESS, JOB), event(PROGRESS, OTHER)]),
    ("POST", "/events", [event("prefecture.job.completed", JOB)]),
    ("POST", "/events/filter", {}),
    ("GET", f"/block_documents/{FOREIGN_BLOCK}", None),
    ("GET", f"{SLUG}/aws-credentials/block_documents", None),
    ("GET", f"{SLUG}/aws-credentials/block_documents/name/others", None),
    ("GET", f"{SLUG}/docker-registry-credentials/block_documents/name/others", None),
    ("GET", f"{SLUG}/secret/block_documents/name/team", None),
    ("GET", "/deployments/name/find-primes/low", None),
    ("POST", f"/deployments/{DEPLOYMENT}/create_flow_run", helper()),
    ("POST", f"/deployments/{HELPERS}/create_flow_run", helper(idempotency_key="part:x:0:0")),
    ("POST", f"/deployments/{HELPERS}/create_flow_run", helper(job_variables={"user": "0"})),
    ("POST", f"/deployments/{HELPERS}/create_flow_run", helper(job_variables=None)),
    ("POST", f"/deployments/{HELPERS}/create_flow_run", helper(work_queue_name="high")),
    ("POST", f"/deployments/{HELPERS}/create_flow_run", helper(labels={"prefecture.job_id": "x"})),
    ("POST", f"/deployments/{HELPERS}/create_flow_run/bulk", [helper()]),
    ("POST", f"/deployments/{HELPERS}/create_jobs", {"jobs": []}),
    ("POST", "/flow_runs/filter", {}),
    ("POST", "/flow_runs/filter", runs()),
    ("POST", "/flow_runs/filter", runs(HELPER, OTHER)),
    ("POST", "/flow_runs/filter", runs(HELPER, operator="or_")),
    ("POST", "/artifacts/filter", artifacts(HELPER, OTHER)),
    ("POST", "/artifacts/filter", artifacts(HELPER, operator="or_")),
    ("GET", "/work_pools/process", None),
    ("GET", f"/work_queues/{uuid4()}", None),
    ("PATCH", "/work_pools/docker", {"is_paused": True}),
    ("POST", "/variables/", {"name": "prefecture_agent_x", "value": 1}),
    ("GET", "/admin/settings", None),
    ("GET", f"//flow_runs/{OWN}", None),
    ("GET", f"/flow_runs/{OWN}/../{OTHER}", None),
]


async def may(method: str, address: str, body: Any) -> bool:
    path, _, query = address.partition("?")
    sent = b"" if body is None else json.dumps(body).encode()
    return await is_allowed(RUN, Request(method, path, query, sent), Server())


@pytest.mark.parametrize("number", range(len(ALLOWED)))
async def test_what_a_run_needs(number: int) -> None:
    assert await may(*ALLOWED[number]), ALLOWED[number]


@pytest.mark.parametrize("number", range(len(REFUSED)))
async def test_what_a_run_does_not_need(number: int) -> None:
    with contextlib.suppress(ValueError):  # what the API does not take is refused too
        assert not await may(*REFUSED[number]), REFUSED[number]


@pytest.mark.parametrize("body", [b"", b"null", b"[", b'{"flow_version": 1', b"\xff", b"[[]]"])
async def test_what_is_no_request(body: bytes) -> None:
    for method, address, _ in ALLOWED:
        if method in ("POST", "PATCH") and not address.endswith(("set_state", str(ARTIFACT))):
            with pytest.raises(ValueError, match="validation error"):
                await is_allowed(RUN, Request(method, address, "", body), Server())
    with pytest.raises(ValueError, match="hexadecimal"):
        await is_allowed(RUN, Request("GET", f"/flow_runs/{'-' * 36}", "", body), Server())


def sent(name: str, about: UUID, *related: UUID) -> str:
    return json.dumps(
        {
            "event": name,
            "resource": {"prefect.resource.id": f"prefect.task-run.{about}"},
            "related": [{"prefect.resource.id": f"prefect.flow-run.{id}"} for id in related],
            "payload": {},
        }
    )


@pytest.mark.parametrize(
    ("text", "own"),
    [
        (sent("prefect.task-run.Running", uuid4(), OWN), True),
        (sent("prefect.task-run.Completed", TASK_RUN, OWN), True),
        (sent("prefect.task-run.Completed", FOREIGN_TASK_RUN, OWN), False),
        (sent("prefect.task-run.Running", uuid4(), OTHER), False),
        (sent("prefect.task-run.Running", uuid4(), OWN, OTHER), False),
        (sent("prefect.task-run.Running", uuid4()), False),
        (sent("prefect.flow-run.Cancelling", OWN, OWN), False),
        (sent("prefecture.job.completed", OWN, OWN), False),
        ("{}", False),
        ("", False),
    ],
    ids=range(10),
)
async def test_events_by_a_websocket(text: str, own: bool) -> None:
    assert await is_own_event(OWN, text, Server()) is own
