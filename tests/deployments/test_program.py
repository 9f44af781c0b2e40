"""What is deployed: the entries of prefect.yaml on every queue, and installed packages' tasks."""

import sys
from pathlib import Path
from typing import Any

import pytest

from deployments.program import Deployment, on_every_queue, read_program
from tasks.contracts import PLATFORM_POOL, Queue
from tasks.errors import OperatorError

FLOW = '''
from tasks.contracts import Payload, Receipt, ResultsDirectory
from tasks.runtime.compute_task import compute_task


class Nothing(Payload):
    """Nothing at all."""


@compute_task("{name}", fresh_container=True, max_duration=60)
async def work(payload: Nothing, results_directory: ResultsDirectory) -> Receipt:
    """Do the work of
    somebody.

    And more of it.
    """
    raise NotImplementedError
'''


class Packages:
    """A folder of installed packages."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def install(self, distribution: str, points: str, **modules: str) -> None:
        """As pip leaves a package: its modules, and what it says of itself."""
        folder = self._folder / f"{distribution}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
        )
        (folder / "entry_points.txt").write_text(f"[prefecture.tasks]\n{points}\n")
        for name, text in modules.items():
            (self._folder / f"{name}.py").write_text(text)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Packages:
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name in ("acme_work", "acme_other"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return Packages(tmp_path)


def of_packages() -> list[Deployment]:
    return [deployment for deployment in read_program() if not deployment.pull_steps]


def test_what_is_installed_stands_beside_ours(packages: Packages) -> None:
    ours = read_program()
    packages.install(
        "acme-tasks", "acme-work = acme_work:work", acme_work=FLOW.format(name="acme-work")
    )
    all_of_them = read_program()
    assert [(d.flow.name, d.name) for d in all_of_them[: len(ours)]] == [
        (d.flow.name, d.name) for d in ours
    ]
    found = all_of_them[len(ours) :]
    assert [deployment.name for deployment in found] == [*Queue]
    for deployment in found:
        assert deployment.flow.name == "acme-work"
        assert deployment.entrypoint == "acme_work.work"
        assert deployment.queue == deployment.name
        assert deployment.description == "Do the work of somebody."
        assert deployment.tags == ["compute", "acme-tasks"]
        assert deployment.job_variables == {"max_duration": 60, "container": "fresh"}
        assert not deployment.of_platform


def test_several_packages(packages: Packages) -> None:
    packages.install("acme", "acme-work = acme_work:work", acme_work=FLOW.format(name="acme-work"))
    packages.install(
        "other", "acme-other = acme_other:work", acme_other=FLOW.format(name="acme-other")
    )
    assert {d.flow.name for d in of_packages()} == {"acme-work", "acme-other"}


NO_TASK = "names no compute task: decorate it with @compute_task"


@pytest.mark.parametrize(
    ("point", "text", "message"),
    [
        ("x = acme_none:work", "", "does not load: ModuleNotFoundError: No module named"),
        ("x = acme_work:work", "", "does not load: AttributeError: "),
        ("x = acme_work:work", "1 / 0", "does not load: ZeroDivisionError: division by zero"),
        ("x = acme_work:work", "def work(): ...", NO_TASK),
        ("x = acme_work", "", NO_TASK),
        ("x = acme_work:work", "from prefect import flow\n@flow\ndef work(): ...", NO_TASK),
        ("x = acme_work:work", FLOW.format(name="y"), "names the compute task 'y': give both the"),
        (
            "find-primes = acme_work:work",
            FLOW.format(name="find-primes"),
            "the compute task find-primes is declared by prefect.yaml too: rename one",
        ),
    ],
)
def test_what_a_package_must_not_name(
    packages: Packages, point: str, text: str, message: str
) -> None:
    packages.install("acme-tasks", point, acme_work=text)
    with pytest.raises(OperatorError, match=f"^acme-tasks: .*{message}") as refused:
        read_program()
    assert "\n" not in str(refused.value)


def test_two_packages_with_one_task(packages: Packages) -> None:
    packages.install("acme", "x = acme_work:work", acme_work=FLOW.format(name="x"))
    packages.install("other", "x = acme_other:work", acme_other=FLOW.format(name="x"))
    with pytest.raises(OperatorError, match=r"x is declared by (acme|other) too: rename one"):
        read_program()


def entry(name: str, pool: str = "docker", **more: Any) -> dict[str, Any]:
    work_pool = {"name": pool, "work_queue_name": name}
    return {"name": name, "entrypoint": "a.py:a", "work_pool": work_pool, **more}


def test_an_entry_for_one_queue_stands_for_all() -> None:
    normal, high, low = on_every_queue([entry("normal", tags=["x"])])
    assert normal == entry("normal", tags=["x"])
    assert high == entry("high", tags=["x"])
    assert low == entry("low", tags=["x"])


def test_what_an_entry_says_of_a_queue_is_left_alone() -> None:
    entries = [entry("low", tags=["slow"]), entry("normal", tags=["x"])]
    found = on_every_queue(entries)
    assert found[:2] == entries
    assert [(e["name"], e["tags"]) for e in found[2:]] == [("high", ["x"])]


def test_the_platforms_own_flows_are_on_no_queue() -> None:
    entries = [entry("hourly", PLATFORM_POOL)]
    assert on_every_queue(entries) == entries


def test_an_entry_that_says_little(tmp_path: Path) -> None:
    """The flow's own docstring and limits hold where an entry has none."""
    manifest = tmp_path / "prefect.yaml"
    manifest.write_text(
        "pull: []\ndeployments:\n  - name: low\n    entrypoint: flows/compress_images.py:"
        "compress_images\n    work_pool: { name: docker, work_queue_name: low }\n"
    )
    found = read_program(manifest)
    assert sorted(deployment.name for deployment in found) == sorted(Queue)
    for deployment in found:
        assert deployment.description.startswith("Make each picture at most `ratio`")
        assert (deployment.tags, deployment.job_variables) == (
            ["compute"],
            {"container": "fresh", "network": "server"},
        )
