"""Jobs of generate-data, and what is seen of them from outside."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from tasks.contracts import JOB_ID_LABEL
from tests.integration.run_container.jobs import IMAGE, python, real
from tests.support.containers import engine
from tests.support.platform import Platform, wait_until

GENERATOR = Path(__file__).parents[3] / "deployments" / "demo" / "generator"
_PRINTS = """
import itertools, json, os, time
to = {name: os.environ.get(name) for name in ("TOPIC", "KAFKA_TOPIC", "KAFKA_BOOTSTRAP_SERVERS")}
for n in itertools.count(1):
    print(json.dumps({"n": n, "to": to, "pad": "x" * SIZE}), flush=True)
    time.sleep(1 / RATE)
"""


def clicks(topic: str, **more: Any) -> dict[str, Any]:
    """The generator that ships with the repository, built from its own files."""
    dockerfile = (GENERATOR / "Dockerfile").read_text().replace("python:3.12-slim", IMAGE)
    files = {"clicks.py": (GENERATOR / "clicks.py").read_text()}
    build = {"dockerfile": dockerfile, "files": files}
    own: dict[str, Any] = {"build": build, "memory": "64m", "cpus": 0.5}
    own["command"] = ["python3", "/clicks.py", "20"]
    return own | {"topic": topic, "duration": 4, "containers": 2} | more


def printing(topic: str, rate: int = 20, size: int = 0, **more: Any) -> dict[str, Any]:
    """A generator that prints `rate` lines a second, each `size` bytes long and a little more."""
    program = _PRINTS.replace("RATE", str(rate)).replace("SIZE", str(size))
    return python(program, topic=topic, **more)


def submit_job(platform: Platform, payload: dict[str, Any]) -> UUID:
    """A job of generate-data."""
    return platform.submit_job("generate-data/high", real(payload), "generated")


def delivering(platform: Platform, payload: dict[str, Any]) -> UUID:
    """A job of generate-data, whose topic has some of its lines."""
    job = submit_job(platform, payload)
    wait_until(lambda: delivered(shown(platform, job)), what="it delivers")
    return job


def shown(platform: Platform, job: UUID) -> str:
    """What its progress bar says."""
    return " ".join(bar["description"] for bar in platform.artifacts(job, "progress"))


def delivered(text: str) -> int:
    """How many lines the topic has for certain, as a progress bar says."""
    found = re.search(r"([\d,]+) delivered", text)
    return int(found[1].replace(",", "")) if found else 0


def summary(platform: Platform, job: UUID) -> dict[str, Any]:
    """What is said of a job that has completed."""
    return platform.manifest(job, "generated")["summary"]


def started(platform: Platform, job: UUID, since: datetime) -> list[datetime]:
    """When the engine started the containers of a job, in order."""
    with engine(platform) as client:
        seen = client.events(
            since=since - timedelta(minutes=1),
            until=datetime.now(UTC),
            filters={"event": "start", "label": f"{JOB_ID_LABEL}={job}"},
            decode=True,
        )
        times = sorted(one["timeNano"] / 1e9 for one in seen)
    return [datetime.fromtimestamp(at, UTC) for at in times]


def segments(platform: Platform, topic: str, job: UUID | str = "") -> list[dict[str, Any]]:
    """The lines of a topic that is a folder, or those of one job there."""
    paths = sorted((platform.results / "topics" / topic).glob(f"{job}*.ndjson"))
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]
