"""Standby containers: which runs they serve, and that they are as any other container."""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml
from PIL import Image

from tests.integration.run_container.jobs import logged
from tests.support.containers import Past, container_that_served, containers_of, engine
from tests.support.platform import FINAL, Platform, platform_up, wait_until
from tests.support.processes import worker
from work_pools.standby import LABEL, is_standby, name_of, run_of

pytestmark = pytest.mark.thorough

# What differs: whose it is, and what of the run's own is not known yet.
_OWN_LABELS = (
    *("io.prefect.flow", "io.prefect.deployment"),
    *("prefecture.standby", "prefecture.container"),
)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Generator[Platform]:
    """A Prefecture of its own: what waits there waits for these tests alone."""
    with platform_up(tmp_path_factory.mktemp("standby"), "docker") as platform:
        yield platform


def waiting(platform: Platform) -> list[Any]:
    """The containers that wait for a run, and live."""
    with engine(platform) as client:
        found = client.containers.list(filters={"label": LABEL}, ignore_removed=True)
        home = str(platform.home)
        return [
            one
            for one in found
            if any(home in str(mount) for mount in one.attrs["Mounts"])
            and is_standby(one.labels, [str(one.name)])
        ]


def one_waits(platform: Platform) -> Any:
    return wait_until(lambda: waiting(platform), what="a container waits")[0]


def submit_job(platform: Platform, directory: str, **variables: Any) -> tuple[UUID, Any]:
    """A job, and its container as it was while it was there.

    On a busy machine a job may have ended before its container is looked for: then a longer one is
    submitted.
    """
    bounds = iter((3 * 10**8, 10**9, 3 * 10**9, 10**10))

    def once() -> tuple[UUID, Any] | None:
        response = platform.create(
            "find-primes/high",
            parameters={"payload": {"upper_bound": next(bounds)}, "results_directory": directory},
            job_variables=variables,
        )
        job = UUID(response.json()["id"])

        def look() -> list[Any] | None:
            ended = platform.run(job)["state_type"] in FINAL
            return containers_of(platform, str(job)) or ([None] if ended else None)

        (found,) = wait_until(look, what="its container")
        return found and (job, found)

    return wait_until(once, what="a job whose container is seen")


def submit_to_one_that_waits(platform: Platform, directory: str) -> tuple[UUID, Any]:
    """A job, and the container that waited for it.

    One that is just made runs a moment before its worker knows: the job then gets another, and the
    next job is tried.
    """

    def once() -> tuple[UUID, Any] | None:
        one_waits(platform)
        job, found = submit_job(platform, directory)
        if LABEL in found.labels:
            return job, found
        platform.ended(job)
        return None

    return wait_until(once, what="a job is served by what waited")


def ended_in_one_that_waited(platform: Platform, submit: Callable[[], UUID]) -> tuple[UUID, Past]:
    """A job that has ended in a container that waited for it: see `submit_to_one_that_waits`."""

    def once() -> tuple[UUID, Past] | None:
        one_waits(platform)
        job = submit()
        platform.ended(job)
        found = container_that_served(platform, str(job))
        return found and (job, found)

    return wait_until(once, what="a job is served by what waited")


def ended_in(platform: Platform, there: Any, job: UUID) -> None:
    """The job's container waits again once the job has ended."""
    assert platform.ended(job)["state_type"] == "COMPLETED"
    wait_until(
        lambda: there.id in {one.id for one in waiting(platform)}, what="its container waits again"
    )
    assert not containers_of(platform, str(job))


def test_jobs_are_served_by_one_container(platform: Platform) -> None:
    served: set[str] = set()
    for number in range(3):
        submit = submit_job if served else submit_to_one_that_waits
        job, there = submit(platform, f"waited-{number}")
        served.add(there.id)
        assert LABEL in there.labels
        assert there.name.endswith(str(job))
        ended_in(platform, there, job)
        assert platform.manifest(job, f"waited-{number}")["attempt"] == 1
        wait_until(
            lambda job=job: any("Finished in state" in line for line in logged(platform, job)),
            what="its log",
        )
    # Several may wait: the one that was in use last goes first.
    assert len(served) == 1


def convert(platform: Platform, directory: str, **variables: Any) -> UUID:
    """A job of a task that is given a container to itself."""
    payload = {"source": "ball.jpg", "format": "png"}
    parameters = {"payload": payload, "results_directory": directory}
    if not (platform.inputs / "ball.jpg").exists():
        Image.new("RGB", (8, 8), "red").save(platform.inputs / "ball.jpg")
    response = platform.create(
        "convert-images/high", parameters=parameters, job_variables=variables
    )
    return UUID(response.json()["id"])


def test_what_decodes_pictures_has_a_container_to_itself(platform: Platform) -> None:
    first, used = submit_to_one_that_waits(platform, "used")
    ended_in(platform, used, first)
    picture, found = ended_in_one_that_waited(platform, lambda: convert(platform, "picture"))
    assert found.id != used.id
    platform.completed(picture, "picture")
    wait_until(lambda: not containers_of(platform, str(picture)), what="it is thrown away")
    assert found.id not in {one.id for one in waiting(platform)}


def test_what_decodes_pictures_refuses_a_shared_container(platform: Platform) -> None:
    one_waits(platform)
    run = platform.ended(convert(platform, "shared", container="shared"))
    assert run["state_type"] == "FAILED"
    assert run["state"]["message"] == (
        "the job variable `container`: this task needs a container of its own, submit it with "
        "`fresh`, or without the variable"
    )


def test_one_that_fails_ends_its_container(platform: Platform) -> None:
    parameters = {"payload": {"upper_bound": 10}, "results_directory": "fails"}
    body = {"parameters": parameters | {"nonsense": 1}, "enforce_parameter_schema": False}
    job, found = ended_in_one_that_waited(
        platform, lambda: UUID(platform.create("find-primes/high", **body).json()["id"])
    )
    assert LABEL in found.labels
    assert platform.ended(job)["state_type"] == "FAILED"
    wait_until(lambda: not containers_of(platform, str(job)), what="it is thrown away")
    assert found.id not in {one.id for one in waiting(platform)}


def test_it_is_made_as_any_other(platform: Platform) -> None:
    first, standby = submit_to_one_that_waits(platform, "standby")
    second, cold = submit_job(platform, "cold", mem_limit="1g")
    platform.completed(first, "standby")
    platform.completed(second, "cold")
    assert LABEL in standby.labels
    assert LABEL not in cold.labels

    hosts = [one.attrs["HostConfig"] for one in (standby, cold)]
    assert [host.pop("Memory") for host in hosts] == [2 * 2**30, 2**30]
    assert [host.pop("MemorySwap") for host in hosts] == [2 * 2**30, 2**30]
    assert [host.pop("CpuShares") for host in hosts] == [1024, 0], "0 means 1024"
    assert hosts[0] == hosts[1]

    configs = [one.attrs["Config"] for one in (standby, cold)]
    stdin = ("AttachStdin", "OpenStdin", "StdinOnce", "Hostname", "Env", "Cmd", "Labels")
    assert {k: v for k, v in configs[0].items() if k not in stdin} == {
        k: v for k, v in configs[1].items() if k not in stdin
    }
    of_the_run = ("PREFECT__", "PREFECT_API_AUTH_STRING=", "PREFECTURE__NETWORK=")
    variables = [{e for e in c["Env"] if not e.startswith(of_the_run)} for c in configs]
    assert variables[0] == variables[1]
    labels = [
        {k: v for k, v in config["Labels"].items() if not k.startswith(_OWN_LABELS)}
        for config in configs
    ]
    assert labels[0] == labels[1]


def test_a_job_starts_cold_where_the_one_that_waited_has_died(platform: Platform) -> None:
    with engine(platform) as client:
        client.containers.get(one_waits(platform).id).kill()
    job, found = submit_job(platform, "died")
    assert found.name.endswith(str(job)) or LABEL not in found.labels
    platform.completed(job, "died")


def test_what_waits_ends_with_its_worker_and_is_removed_by_the_next(platform: Platform) -> None:
    there = one_waits(platform)
    process = worker(platform)
    process.kill()

    def gone() -> bool:
        with engine(platform) as client:
            here = client.containers.list(all=True, filters={"id": there.id}, ignore_removed=True)
            return not here

    wait_until(gone, what="it is removed")
    assert one_waits(platform).id != there.id


def test_whose_a_container_is() -> None:
    run = uuid4()
    assert run_of({"io.prefect.flow-run-id": str(run)}, ["/anything"]) == run
    assert run_of({LABEL: "yes"}, [f"/{name_of('brave-otter', run)}"]) == run
    assert run_of({LABEL: "yes"}, ["/standby-0123456789ab"]) is None
    assert run_of({}, [f"/{name_of('not-ours', run)}"]) is None
    assert run_of({LABEL: "yes"}, []) is None


def test_what_needs_a_fresh_container_is_deployed_with_one() -> None:
    tree = Path(__file__).parents[3]
    manifest = yaml.safe_load((tree / "prefect.yaml").read_text())
    for entry in manifest["deployments"]:
        declared = "fresh_container=True" in (tree / entry["entrypoint"].split(":")[0]).read_text()
        given = entry["work_pool"].get("job_variables", {}).get("container")
        assert given == ("fresh" if declared else None), entry["entrypoint"]
