"""What the worker mounts in the containers of jobs in place of the engine's socket."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect_docker.worker import (  # pyright: ignore[reportMissingTypeStubs]
    DockerWorkerJobConfiguration,
)

from tasks.contracts import ENGINE_SOCKET
from work_pools.worker.containers.engine_broker import configuration_with

ROOTS = ["/data/inputs:/data/inputs:ro", "/data/results:/data/results:rw"]


@pytest.mark.parametrize("starts_containers", [False, True])
def test_no_job_has_the_socket_of_the_engine(starts_containers: bool) -> None:
    kind = configuration_with(Path("/home/broker/one"), DockerWorkerJobConfiguration)
    own: dict[str, Any] = {"user": "10001:10001", "group_add": ["998"]}
    engine = [f"/var/run/docker.sock:{ENGINE_SOCKET}"] if starts_containers else []
    configuration = kind(image="prefecture", volumes=[*ROOTS, *engine], container_create_kwargs=own)
    configuration.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4()))
    broker = ["/home/broker/one:/run/prefecture:ro"] if starts_containers else []
    assert configuration.volumes == [*ROOTS, *broker]
    assert configuration.container_create_kwargs is not None
    groups = [] if starts_containers else ["998"]
    assert configuration.container_create_kwargs["group_add"] == groups
