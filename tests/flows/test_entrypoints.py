"""prefect.yaml reads as the program: what it names exists, loads, and explains itself."""

from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from prefect import Flow
from prefect.flows import load_flow_from_entrypoint
from prefect.utilities.callables import parameter_schema

from deployments.program import on_every_queue
from tasks.contracts import PLATFORM_POOL, PULL_STEPS, Pool, Queue

ROOT = Path(__file__).parents[2]
HELPER = "flows/sum_files.py:sum_files"
Tree = dict[str, Any]


@cache
def program() -> Tree:
    return cast(Tree, yaml.safe_load((ROOT / "prefect.yaml").read_text()))


def deployments() -> list[Tree]:
    """As `prefecture apply` deploys them: an entry for one queue stands for all."""
    return on_every_queue(program()["deployments"])


def entrypoints() -> list[str]:
    return sorted({deployment["entrypoint"] for deployment in deployments()})


def compute_entrypoints() -> list[str]:
    """Of the flows that users hand jobs to: those on a pool for jobs that jobs do not make."""
    pools = set(Pool)
    found = {d["entrypoint"] for d in deployments() if d["work_pool"]["name"] in pools}
    return sorted(found - {HELPER})


@cache
def load(entrypoint: str) -> Flow[..., Any]:
    # Prefect's own deploy hides an import error behind a placeholder.
    path, _, function = entrypoint.rpartition(":")
    return load_flow_from_entrypoint(f"{ROOT / path}:{function}", use_placeholder_flow=False)


def test_the_engine_is_for_jobs_that_start_as_ours_do() -> None:
    assert program()["pull"] == PULL_STEPS


def leaves(schema: Tree, definitions: Tree, path: str = "") -> Iterator[tuple[str, Tree]]:
    """Every field of a form that a person fills in, with its path."""
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if schema.get("type") == "object" and "properties" in schema:
        for name, field in schema["properties"].items():
            yield from leaves(field, definitions, f"{path}.{name}".lstrip("."))
    else:
        # A choice, such as a list of lines or an object, has a type where each one has.
        choices: list[Tree] = schema.get("anyOf", [])
        typed = {"type": [one["type"] for one in choices]} if choices else {}
        yield path, typed | schema


@pytest.mark.parametrize("entrypoint", entrypoints())
def test_entrypoint_loads_and_explains_itself(entrypoint: str) -> None:
    flow = load(entrypoint)
    assert flow.isasync, "a synchronous flow idles up to a second after its end"
    assert flow.description
    assert flow.name == Path(entrypoint.rpartition(":")[0]).stem.replace("_", "-")
    # Only a job's return value is worth a file.
    assert bool(flow.persist_result) == (entrypoint in compute_entrypoints())


@pytest.mark.parametrize("entrypoint", entrypoints())
def test_failed_job_is_not_retried_by_prefect(entrypoint: str) -> None:
    assert load(entrypoint).retries == 0


@pytest.mark.parametrize("entrypoint", compute_entrypoints())
def test_parameters_are_a_payload_and_a_results_directory(entrypoint: str) -> None:
    schema = parameter_schema(load(entrypoint))
    assert list(schema.properties) == ["payload", "results_directory"]
    assert set(schema.required) == {"payload", "results_directory"}
    payload = schema.definitions[schema.properties["payload"]["$ref"].rpartition("/")[2]]
    assert payload["additionalProperties"] is False
    assert payload["description"]


@pytest.mark.parametrize("entrypoint", sorted({*entrypoints()} - {HELPER}))
def test_every_field_of_the_form_has_a_type_a_description_and_an_example(entrypoint: str) -> None:
    schema = parameter_schema(load(entrypoint))
    found = dict(leaves(schema.model_dump_for_openapi(), schema.definitions))
    if entrypoint in compute_entrypoints():
        assert "results_directory" in found
        assert any(path.startswith("payload.") for path in found)
    elif not schema.properties:
        return
    lacking = {
        path: sorted({"type", "description", "examples", "title"} - {*field})
        for path, field in found.items()
        if not {"type", "description", "examples", "title"} <= {*field}
    }
    assert lacking == {}


@pytest.mark.parametrize("entrypoint", compute_entrypoints())
def test_every_compute_task_stands_on_every_queue(entrypoint: str) -> None:
    of_flow = [d for d in deployments() if d["entrypoint"] == entrypoint]
    assert sorted(d["name"] for d in of_flow) == sorted(Queue)
    for deployment in of_flow:
        assert deployment["work_pool"]["work_queue_name"] == deployment["name"]


def test_deployment_names_are_unique() -> None:
    names = [f"{load(d['entrypoint']).name}/{d['name']}" for d in deployments()]
    assert sorted(names) == sorted(set(names))


def test_one_task_reads_the_same_on_every_queue() -> None:
    rest: dict[str, list[Tree]] = defaultdict(list)
    for deployment in deployments():
        about = {key: deployment[key] for key in deployment if key not in ("name", "work_pool")}
        rest[deployment["entrypoint"]].append(about)
    for entrypoint, entries in rest.items():
        assert all(entry == entries[0] for entry in entries), entrypoint
        assert entries[0].get("description") or load(entrypoint).description, entrypoint


def test_platform_flows_run_by_themselves() -> None:
    others = {*compute_entrypoints(), HELPER}
    own = [d for d in deployments() if d["entrypoint"] not in others]
    assert {d["work_pool"]["name"] for d in own} == {PLATFORM_POOL}
    schedules = {load(d["entrypoint"]).name: d["schedules"] for d in own}
    assert schedules == {
        "aggregate-history": [
            {"cron": "* * * * *", "timezone": "UTC", "slug": "prefecture-minute"}
        ],
        "report-usage": [{"cron": "3 * * * *", "timezone": "UTC", "slug": "prefecture-hour"}],
    }


def test_the_list_in_the_ui_has_internal_flows_last_and_apart() -> None:
    """The UI sorts deployments by their own names, and filters them by tags."""
    used = [d for d in deployments() if d["entrypoint"] in compute_entrypoints()]
    internal = [d for d in deployments() if d not in used]
    assert {d["tags"][0] for d in used} == {"compute"}
    assert {d["tags"][0] for d in internal} == {"internal"}
    assert max(d["name"] for d in used) < min(d["name"] for d in internal)


def test_anchors_resolve_and_each_definition_is_used() -> None:
    definitions = program()["definitions"]
    assert "<<" not in str(program())
    tasks = {name: part for name, part in definitions.items() if "entrypoint" in part}
    # A task whose entry is for one queue needs no definition.
    repeated = [d["entrypoint"] for d in program()["deployments"]]
    several = {entrypoint for entrypoint in repeated if repeated.count(entrypoint) > 1}
    named = {part["entrypoint"] for part in tasks.values()}
    assert several <= named <= set(entrypoints())
    for name, part in tasks.items():
        assert load(part["entrypoint"]).name == name


def test_every_deployment_has_a_pull_step() -> None:
    # Without one, `prefect deploy` assumes /opt/prefect, or writes down where it was called from.
    for deployment in deployments():
        steps = deployment.get("pull", program()["pull"])
        assert [list(step) for step in steps] == [
            ["prefect.deployments.steps.set_working_directory"]
        ]


def test_every_flow_file_is_deployed() -> None:
    files = {path.name for path in (ROOT / "flows").glob("*.py")} - {"__init__.py"}
    assert files == {Path(e.rpartition(":")[0]).name for e in entrypoints()}


def test_prefect_version_is_the_one_installed() -> None:
    import prefect

    assert program()["prefect-version"] == prefect.__version__
