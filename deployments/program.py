"""The deployments: entries of prefect.yaml, and the compute tasks of installed packages.

A package names its compute tasks under the entry point group `prefecture.tasks`:

    [project.entry-points."prefecture.tasks"]
    count-words = "acme_tasks.count_words:count_words"
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import yaml
from prefect import Flow
from prefect.flows import load_flow_from_entrypoint

from deployments.pools import TREE
from tasks.contracts import PLATFORM_POOL, Pool, Queue, declared
from tasks.errors import OperatorError

PREFECT_YAML = TREE / "prefect.yaml"
ENTRY_POINTS = "prefecture.tasks"
"""The entry point group of packages with compute tasks; each entry point names one flow."""


COMPUTE = "compute"
"""The tag of compute tasks; Prefecture's own flows have the tag `internal`."""


@dataclass(frozen=True)
class Deployment:
    """One deployment: a flow, its queue, and the job variables of its runs."""

    flow: Flow[..., Any]
    name: str
    """The name of the queue, for a compute task."""
    entrypoint: str
    description: str
    tags: list[str]
    queue: str | None
    """None on the platform's pool."""
    job_variables: dict[str, Any] = field(default_factory=dict[str, Any])
    schedules: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    pull_steps: list[dict[str, Any]] | None = None
    """Prefect's steps before it loads the flow; None for flows of installed packages."""

    @property
    def of_platform(self) -> bool:
        """Whether it is one of the platform's own flows, not a compute task."""
        return self.queue is None


def read_program(file: Path = PREFECT_YAML) -> list[Deployment]:
    """All deployments. Raises OperatorError, naming the task, where one is invalid."""
    manifest: dict[str, Any] = yaml.safe_load(file.read_text())
    entries = on_every_queue(manifest["deployments"])
    flows = {name: _of_tree(name) for name in sorted({entry["entrypoint"] for entry in entries})}
    ours = [_of_entry(entry, flows[entry["entrypoint"]], manifest["pull"]) for entry in entries]
    return ours + _of_packages({flow.name: "prefect.yaml" for flow in flows.values()})


def on_every_queue(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The entries of prefect.yaml, completed: each compute task has one for every queue.

    A missing entry is a copy of the task's entry for the queue `normal`, or else of its first.
    """
    found = list(entries)
    pools, queues = set(Pool), set(Queue)
    for entrypoint in dict.fromkeys(entry["entrypoint"] for entry in entries):
        named = [
            entry
            for entry in entries
            if entry["entrypoint"] == entrypoint
            and entry["work_pool"]["name"] in pools
            and entry["name"] in queues
        ]
        names = {entry["name"]: entry for entry in named}
        for queue in Queue:
            if named and queue not in names:
                like = names.get(Queue.NORMAL, named[0])
                pool = like["work_pool"] | {"work_queue_name": queue.value}
                found.append(like | {"name": queue.value, "work_pool": pool})
    return found


def _of_entry(
    entry: dict[str, Any], flow: Flow[..., Any], pull: list[dict[str, Any]]
) -> Deployment:
    pool: dict[str, Any] = entry["work_pool"]
    options = declared(flow.fn)
    own = options.job_variables if options else {}
    return Deployment(
        flow=flow,
        name=entry["name"],
        entrypoint=entry["entrypoint"],
        description=entry.get("description") or _in_short(flow),
        tags=entry.get("tags", [COMPUTE]),
        queue=None if pool["name"] == PLATFORM_POOL else pool.get("work_queue_name", "default"),
        job_variables=own | pool.get("job_variables", {}),
        schedules=entry.get("schedules", []),
        pull_steps=pull,
    )


def _of_tree(entrypoint: str) -> Flow[..., Any]:
    """Load a flow of this tree. Prefect would put a placeholder in the place of a broken one."""
    try:
        return load_flow_from_entrypoint(str(TREE / entrypoint), use_placeholder_flow=False)
    except Exception as error:
        raise OperatorError(f"{entrypoint} does not load: {error}") from error


def _of_packages(taken: dict[str, str]) -> list[Deployment]:
    """The compute tasks of installed packages, each on every queue.

    `taken`: names already in use, with the file or package that declares each.
    """
    found: list[Deployment] = []
    for point in sorted(set(entry_points(group=ENTRY_POINTS)), key=lambda point: point.name):
        package = point.dist.name if point.dist else "a package"
        flow = _of_point(point, package)
        if (other := taken.get(flow.name)) is not None:
            raise OperatorError(
                f"{package}: the compute task {flow.name} is declared by {other} too: rename one, "
                "or uninstall the package"
            )
        taken[flow.name] = package
        found += _on_queues(flow, point, package)
    return found


def _of_point(point: EntryPoint, package: str) -> Flow[..., Any]:
    """Load the flow that an entry point names. Raises OperatorError where it is no compute task."""
    where = f"{package}: the entry point {ENTRY_POINTS} {point.name} = {point.value!r}"
    try:
        flow: Any = point.load()
    except Exception as error:
        said = " ".join(str(error).split())
        raise OperatorError(
            f"{where} does not load: {type(error).__name__}: {said}: correct the package, or "
            "uninstall it"
        ) from error
    if declared(getattr(flow, "fn", flow)) is None or "." in point.attr:
        raise OperatorError(f"{where} names no compute task: decorate it with @compute_task")
    if flow.name != point.name:
        raise OperatorError(
            f"{where} names the compute task {flow.name!r}: give both the same name"
        )
    return flow


def _on_queues(flow: Flow[..., Any], point: EntryPoint, package: str) -> Iterable[Deployment]:
    options = declared(flow.fn)
    for queue in Queue:
        yield Deployment(
            flow=flow,
            name=queue.value,
            entrypoint=f"{point.module}.{point.attr}",
            description=_in_short(flow),
            tags=[COMPUTE, package],
            queue=queue.value,
            job_variables=options.job_variables if options else {},
        )


def _in_short(flow: Flow[..., Any]) -> str:
    """The first paragraph of a flow's docstring."""
    return " ".join((flow.description or "").partition("\n\n")[0].split())
