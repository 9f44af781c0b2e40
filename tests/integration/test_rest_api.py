"""Every request of docs/reference/rest-api.md, sent as it is written there."""

import json
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.support.platform import Platform, http, pause, wait_until

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "rest-api.md"


def requests(section: str) -> list[tuple[str, str, str, Any]]:
    """Title, method, path and body of each request of a section."""
    text = PAGE.read_text().partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found: list[tuple[str, str, str, Any]] = []
    for part in text.split("\n### ")[1:]:
        [(method, path, body)] = re.findall(r"```text\n(\w+) (\S+)\n(.*?)```", part, re.DOTALL)
        found.append((part.partition("\n")[0], method, path, json.loads(body) if body else None))
    return found


def send(platform: Platform, method: str, path: str, body: Any, **names: str) -> Any:
    """What the server answers to a request with these names in the place of `{…}`."""
    text = json.dumps(body)
    for name, value in names.items():
        path, text = (part.replace(f"{{{name}}}", value) for part in (path, text))
    answer = platform.rest(method, path, json.loads(text))
    assert answer.is_success, (method, path, answer.text)
    return answer.json() if answer.content else None


def test_the_life_of_a_job(process_platform: Platform) -> None:
    names: dict[str, str] = {}
    answers: dict[str, Any] = {}
    for title, method, path, body in requests("Routes"):
        answers[title] = send(process_platform, method, path, body, **names)
        match title:
            case "Find a deployment":
                names["deployment"] = answers[title]["id"]
            case "Submit a job":
                names["job"] = answers[title]["id"]
                process_platform.completed(UUID(names["job"]), "numbers")
                event = f"prefecture.job.{names['job']}"
                wanted = {"filter": {"resource": {"id": [event]}}}

                def ended(wanted: Any = wanted) -> bool:
                    found = process_platform.rest("POST", "/events/filter", wanted).text
                    return "prefecture.job.completed" in found

                wait_until(ended, what="the event of its end")
            case _:
                pass
    assert answers["Read the state of a job"]["state"]["type"] == "COMPLETED"
    events = {event["event"]: event for event in answers["Read the events of a job"]["events"]}
    assert events["prefecture.job.completed"]["payload"]["location"].endswith(names["job"])
    assert answers["Find later attempts at a job"] == []
    assert answers["Cancel a job"]["status"] == "ABORT", "it has ended"
    for job in answers["Submit many jobs"]:
        process_platform.completed(UUID(job), "numbers")


def test_an_example_of_each_task_is_taken(process_platform: Platform) -> None:
    with pause(process_platform):
        for task, method, path, body in requests("Parameters"):
            deployment = process_platform.deployment(f"{task}/low")
            run = send(process_platform, method, path, body, deployment=deployment)
            assert run["parameters"] == body["parameters"]
            send(process_platform, "DELETE", f"/flow_runs/{run['id']}", None)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (421, {"Host": "rebound.example.org"}),
        (403, {"Origin": "https://elsewhere.example.org"}),
        (403, {"Origin": "null", "Content-Type": "text/plain"}),
    ],
)
def test_other_host_names_and_origins_are_refused(
    process_platform: Platform, status: int, headers: dict[str, str]
) -> None:
    address = f"{process_platform.api}/flows/"
    answer = http().post(address, content=json.dumps({"name": "foreign"}), headers=headers)
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers
    wanted = {"flows": {"name": {"any_": ["foreign"]}}}
    assert process_platform.rest("POST", "/flows/count", wanted).json() == 0
