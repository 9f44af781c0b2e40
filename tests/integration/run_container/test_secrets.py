"""Secrets of users' containers: read by the container, and told by nothing else."""

import json

import pytest
from prefect.blocks.system import Secret
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from tests.integration.generate_data import jobs as generate_data
from tests.integration.run_container.jobs import failed, python, shell, submit_job
from tests.support.platform import Platform

VALUE = "correct horse battery"
SCRIPT = """
test "$(cat /run/secrets/api-key)" = "$(echo correct horse) battery" || exit 7
wc -c < /run/secrets/api-key > /output/length; cat /run/secrets/* | sha256sum > /output/digest
"""
GENERATOR = """
import time
while True:
    print(len(open("/run/secrets/api-key").read()), flush=True)
    time.sleep(0.2)
"""


@pytest.mark.thorough
async def test_a_container_reads_a_secret_that_nothing_else_tells(
    docker_platform: Platform,
) -> None:
    with temporary_settings({PREFECT_API_URL: docker_platform.api}):
        await Secret(value=SecretStr(VALUE)).asave("api-key", overwrite=True)
    job = submit_job(docker_platform, shell(SCRIPT, secrets=["api-key"]))
    generator = python(GENERATOR, topic="lengths", duration=3, secrets=["api-key"])
    generated = generate_data.submit_job(docker_platform, generator)
    folder = docker_platform.completed(job, "containers")
    assert (folder / "output" / "length").read_text().strip() == str(len(VALUE))
    assert generate_data.summary(docker_platform, generated)["delivered"]
    lengths = {str(line) for line in generate_data.segments(docker_platform, "lengths")}
    assert lengths == {str(len(VALUE))}
    since = {"occurred": {"since": docker_platform.run(job)["created"]}}
    told = [
        *(docker_platform.run(each) for each in (job, generated)),
        *(
            docker_platform.rest("GET", f"/flow_run_states/?flow_run_id={each}").json()
            for each in (job, generated)
        ),
        docker_platform.rest("POST", "/artifacts/filter", {}).json(),
        docker_platform.rest("POST", "/logs/filter", {}).json(),
        docker_platform.rest("POST", "/events/filter", {"filter": since}).json(),
        [path.read_text() for path in folder.rglob("*") if path.is_file()],
        [path.read_text() for path in (docker_platform.home / "logs").rglob("*.log")],
    ]
    assert all(told)
    assert "horse battery" not in json.dumps(told).replace("horse) battery", "")
    missing = submit_job(docker_platform, shell("true", secrets=["api-key", "no-such-key"]))
    assert "there is no Secret block 'no-such-key'" in failed(docker_platform, missing)
