"""How the engine and a process are told which GPUs a job has."""

from typing import Any

import pytest
from prefect.workers.process import ProcessJobConfiguration
from prefect_docker.worker import (  # pyright: ignore[reportMissingTypeStubs]
    DockerWorkerJobConfiguration,
)

from tasks.contracts import ENGINE_SOCKET
from work_pools.worker.gpus import with_devices, with_variable

WANTED: dict[str, Any] = {
    "Driver": "",
    "Count": 0,
    "DeviceIDs": ["1", "GPU-7f"],
    "Capabilities": [["gpu"]],
    "Options": {},
}


@pytest.mark.parametrize("starts_containers", [False, True])
def test_a_container(starts_containers: bool) -> None:
    volumes = [f"/var/run/docker.sock:{ENGINE_SOCKET}"] if starts_containers else []
    own = {"user": "10001:10001"}
    configuration = DockerWorkerJobConfiguration(
        image="prefecture", volumes=volumes, container_create_kwargs=own
    )
    with_devices(configuration, ["1", "GPU-7f"])
    assert configuration.env["PREFECTURE__GPUS"] == "1,GPU-7f"
    devices: dict[str, Any] = {} if starts_containers else {"device_requests": [WANTED]}
    assert configuration.container_create_kwargs == own | devices


def test_a_process() -> None:
    configuration = ProcessJobConfiguration()
    with_variable(configuration, ["1"])
    assert configuration.env == {"PREFECTURE__GPUS": "1", "CUDA_VISIBLE_DEVICES": "1"}
