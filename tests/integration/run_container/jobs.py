"""Jobs of run-container, and what is seen of their containers from outside."""

import json
from functools import cache
from typing import Any
from uuid import UUID

import docker

from deployments.local.docker_engine import base_image
from tasks.settings import Settings
from tests.support.containers import engine
from tests.support.platform import Platform, wait_until

DEMO = {
    "dockerfile": 'FROM {base}\nCOPY entrypoint.sh /\nENTRYPOINT ["/entrypoint.sh"]\n',
    "script": "#!/bin/sh\necho started\n{meanwhile}\necho done >&2\n"
    "echo written > output/output.txt\n",
}


IMAGE = "@image"
"""Stands in a payload for an image that is here: what the image of jobs is built on. It has Python
and a shell."""


@cache
def some_image() -> str:
    """The image that this stands for."""
    client = docker.from_env()
    try:
        return base_image(client, Settings())
    finally:
        client.close()


def demo(meanwhile: str = "sleep 5") -> dict[str, Any]:
    """The demo of the original, nothing of it anywhere but in the payload. `meanwhile`: the line
    of shell that it runs between what it says."""
    return {
        "build": {
            "dockerfile": DEMO["dockerfile"].format(base=IMAGE),
            "files": {"entrypoint.sh": DEMO["script"].format(meanwhile=meanwhile)},
        }
    }


def shell(script: str, **more: Any) -> dict[str, Any]:
    """A payload that runs a few lines of shell."""
    return {"image": IMAGE, "command": ["sh", "-c", script], "memory": "64m", **more}


def python(program: str, **more: Any) -> dict[str, Any]:
    """A payload that runs a few lines of Python."""
    return {"image": IMAGE, "command": ["python3", "-c", program], "memory": "64m", **more}


def real(payload: dict[str, Any]) -> dict[str, Any]:
    """A payload with the name of the image in its place."""
    return json.loads(json.dumps(payload).replace(IMAGE, some_image()))


def submit_job(platform: Platform, payload: dict[str, Any], directory: str = "containers") -> UUID:
    """A job of run-container."""
    return platform.submit_job("run-container/high", real(payload), directory)


def failed(platform: Platform, job: UUID) -> str:
    """The one line with which a job has failed."""
    run = platform.ended(job)
    assert (run["state_type"], run["state_name"]) == ("FAILED", "Failed"), run["state"]["message"]
    assert "\n" not in run["state"]["message"]
    return run["state"]["message"]


def logged(platform: Platform, job: object) -> list[str]:
    """The lines of a run's log in the UI."""
    filter = {"logs": {"flow_run_id": {"any_": [str(job)]}}, "limit": 200}
    return [line["message"] for line in platform.rest("POST", "/logs/filter", filter).json()]


def siblings(platform: Platform, job: UUID) -> list[Any]:
    """The users' containers of a job, running or not."""
    with engine(platform) as client:
        filters: dict[str, Any] = {"label": ["prefecture=sibling", f"prefecture.job_id={job}"]}
        return client.containers.list(all=True, filters=filters, ignore_removed=True)


def running_sibling(platform: Platform, job: UUID, not_that: str = "") -> Any:
    """The container of a job, once it runs."""

    def look() -> Any:
        found = [one for one in siblings(platform, job) if one.status == "running"]
        return next((one for one in found if one.id != not_that), None)

    return wait_until(look, what=f"the container of job {job} runs")


def built_images(platform: Platform, job: UUID) -> list[Any]:
    """The images that were built for a job."""
    with engine(platform) as client:
        return client.images.list(name=f"prefecture-build:{job}")
