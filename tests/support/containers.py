"""The containers of one Prefecture's jobs, seen from outside."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import docker
from docker.errors import APIError

from tests.support.platform import Platform
from work_pools.standby import run_of

# How a program that is run inside a container begins: `status` is what the kernel grants the
# process, and `write` tries to write to a folder.
PROBE_START = """
import json, os, pathlib, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
def write(folder):
    path = pathlib.Path(folder) / "probe"
    try:
        path.write_text("x")
        path.unlink()
        return "written"
    except OSError as error:
        return error.strerror
"""


@contextmanager
def which_may_be_gone() -> Generator[None]:
    """Ignore that the container that the block is about is removed, or is being removed."""
    try:
        yield
    except APIError as error:
        if error.status_code not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
            raise


@contextmanager
def engine(platform: Platform) -> Generator[docker.DockerClient]:
    """A client for the platform's engine."""
    client = docker.from_env(environment=platform.environment)
    try:
        yield client
    finally:
        client.close()


def containers(platform: Platform) -> list[Any]:
    """Every container of a job of this platform, running or not."""
    with engine(platform) as client:
        found = client.containers.list(
            all=True, filters={"label": "prefecture=job"}, ignore_removed=True
        )
        home = str(platform.home)
        ours = [one for one in found if any(home in str(m) for m in one.attrs["Mounts"])]
        return [one for one in ours if run_of_container(one)]


def run_of_container(container: Any) -> str:
    """The flow run that a container serves; empty where it waits for one."""
    return str(run_of(container.labels, [container.name]) or "")


def containers_of(platform: Platform, run: str) -> list[Any]:
    """The containers of a flow run, running or not: never more than one, if all is well."""
    return [one for one in containers(platform) if run_of_container(one) == run]


@dataclass(frozen=True)
class Past:
    """A container that was there once, by the engine's events."""

    id: str
    labels: dict[str, str]


def container_that_served(platform: Platform, run: str) -> Past | None:
    """The container that has, or had, the run in its name: a short job's may be gone already.

    None where there was none, or more than 256 events ago, which is what the engine keeps.
    """
    with engine(platform) as client:
        kinds = {"type": "container", "event": ["create", "rename"]}
        found = client.events(since=0, until=int(time.time()), filters=kinds, decode=True)
        actors = [one["Actor"] for one in found]
    named = (one for one in actors if one["Attributes"]["name"].endswith(run))
    return next((Past(one["ID"], one["Attributes"]) for one in named), None)


def kill_container(platform: Platform, run: str) -> None:
    """SIGKILL to the container of a flow run: `docker kill`."""
    with engine(platform) as client:
        (found,) = containers_of(platform, run)
        client.containers.get(found.id).kill()


def hardened_host_config(container: Any) -> dict[str, Any]:
    """The HostConfig of a container; asserts that it gives no more rights than a job may have."""
    host = container.attrs["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["ReadonlyRootfs"] is True
    assert host["Privileged"] is False
    return host
