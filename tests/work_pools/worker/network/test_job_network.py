"""Where a host cannot have the closed network, and where a job has the open one."""

import logging
import os
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import docker
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect_docker.worker import (  # pyright: ignore[reportMissingTypeStubs]
    DockerWorkerJobConfiguration,
)

from tasks.errors import OperatorError
from tasks.settings import REACHED_VARIABLE
from tests.support.needs import need_docker
from tests.support.platform import job_image
from work_pools.worker.network import job_network
from work_pools.worker.network.internal_network import InternalNetwork
from work_pools.worker.network.job_network import NAME, JobNetwork

API = "http://127.0.0.1:4200/api"
STORE = "aws-credentials/store"


@pytest.mark.parametrize(
    ("api", "listed", "reason"),
    [
        (API, ["10.0.0.5:9000"], "jobs cannot reach the address 10.0.0.5:9000"),
        ("https://10.0.0.5/api", [], "name the server as its certificate does"),
    ],
)
def test_what_no_host_can_have_is_refused(api: str, listed: list[str], reason: str) -> None:
    with pytest.raises(OperatorError, match=reason):
        JobNetwork("one", api, listed).open()


def test_each_listed_name_is_an_address_of_its_own_in_a_container() -> None:
    network = JobNetwork("one", API, ["a.org:443", "b.org:443", "b.org:80", "127.0.0.1:5432"])
    network.gateway = "172.30.0.1"
    hosts = network.hosts
    assert hosts.pop("host.docker.internal") == "172.30.0.1"
    assert [*hosts] == ["a.org", "b.org"]
    assert len({*hosts.values()}) == 2
    assert all(address.startswith("127.88.") for address in hosts.values())


@pytest.mark.thorough
def test_a_network_that_was_removed_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    need_docker()
    job_image()
    name = f"prefecture-test-{os.getpid()}"  # no other Prefecture of this machine uses it
    monkeypatch.setattr(job_network, "NAME", name)
    client, network = docker.from_env(), JobNetwork("one", API, ["localhost:9092"])
    networks: Any = client.networks  # its stubs leave most of its methods untyped
    try:
        with monkeypatch.context() as patch:
            patch.setattr(job_network, "_TRY", "raise SystemExit(1)")
            with pytest.raises(OperatorError, match="let the firewall of this host accept"):
                network.open()
        assert networks.list(names=[name]) == []
        network.open()
        gateway, url = network.gateway, network.url
        networks.get(name).remove()
        network.keep()
        assert networks.list(names=[name])
        assert (network.gateway, network.url) == (gateway, url)
    finally:
        network.close()
        for each in networks.list(names=[name]):
            each.remove()
        client.close()


class Block:
    def __init__(self, **parameters: Any) -> None:
        self.data = {"aws_client_parameters": parameters}


class Server:
    """Knows one block."""

    def __init__(self, block: Block) -> None:
        self._block = block

    async def read_block_document_by_name(self, name: str, kind: str, **_: Any) -> Block:
        assert f"{kind}/{name}" == STORE
        return self._block


class Base:
    """In place of Prefect's worker: it only says with what it would start a job."""

    job_configuration = DockerWorkerJobConfiguration
    name = "one"

    def __init__(self, block: Block, **_: Any) -> None:
        self.client = Server(block)

    async def setup(self) -> None:
        pass

    async def run(self, run: FlowRun, configuration: Any, task_status: Any = None) -> Any:
        return configuration


class Worker(InternalNetwork, Base):  # pyright: ignore[reportIncompatibleVariableOverride, reportIncompatibleMethodOverride, reportUnsafeMultipleInheritance]
    pass


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What jobs reach, where the network could be opened, without an engine."""
    reached: list[str] = []

    def open(network: JobNetwork) -> None:
        network.gateway = "172.30.0.1"

    monkeypatch.setattr(JobNetwork, "open", open)
    monkeypatch.setattr(JobNetwork, "reach", lambda _, host: reached.append(host))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    return reached


async def started(block: Block, network: str | None = None) -> DockerWorkerJobConfiguration:
    """The configuration with which the worker starts a job that uses a block."""
    worker: Any = Worker(block, network=network, reachable=["a.org:443"], broker=None)
    await worker.setup()
    configuration = worker.job_configuration(env={"PREFECTURE_S3_CREDENTIALS": STORE}, volumes=[])
    run = FlowRun(id=uuid4(), flow_id=uuid4())
    configuration.prepare_for_flow_run(run)
    return await worker.run(run, configuration)


async def test_the_endpoint_of_the_credentials_is_reached(opened: list[str]) -> None:
    job = await started(Block(endpoint_url="http://127.0.0.1:9000"))
    assert opened == ["127.0.0.1:9000"]
    assert job.networks == [NAME]
    assert (job.env[REACHED_VARIABLE] or "").startswith("a.org:443=")
    await started(Block(endpoint_url="https://s3.example.org"))
    assert opened[1:] == ["s3.example.org:443"]


async def test_without_an_endpoint_the_network_is_open(
    opened: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        job = await started(Block())
    assert (job.networks, REACHED_VARIABLE in job.env) == ([], True)
    assert job.env[REACHED_VARIABLE] is None
    assert "set PREFECTURE_JOB_NETWORK=internal and list those that jobs use" in caplog.text
    job = await started(Block(), "internal")
    assert job.networks == [NAME]
    assert opened == []


async def test_a_host_that_cannot_have_it_leaves_jobs_open_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(JobNetwork, "open", _refusing("the engine is in a virtual machine"))
    with caplog.at_level(logging.WARNING):
        job = await started(Block(endpoint_url="http://127.0.0.1:9000"))
    assert job.networks == []
    assert caplog.messages == [
        "jobs have an open network: the engine is in a virtual machine; "
        "PREFECTURE_JOB_NETWORK=open says that this is wanted"
    ]
    with pytest.raises(OperatorError, match="virtual machine"):
        await started(Block(), "internal")
    job = await started(Block(), "open")
    assert job.networks == []
    assert len(caplog.messages) == 1


def _refusing(reason: str) -> Callable[[JobNetwork], None]:
    def open(network: JobNetwork) -> None:
        raise OperatorError(reason)

    return open
