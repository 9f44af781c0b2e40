"""The guide to a compute task of one's own, followed to the letter: in a checkout and as a package.

On the platforms that other tests use too: each test puts back what it has deployed.
"""

import json
import re
import subprocess
import sys
import sysconfig
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import docker
import pytest

from tests.support.platform import Platform, job_image
from tests.support.trees import TREE, checkout, run_in

GUIDE = (TREE / "docs/guides/add-a-task.md").read_text()
WORDS = [["to", 2], ["be", 2], ["or", 1], ["not", 1]]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


FLOW, TEST = blocks("python")


@contextmanager
def deployed(platform: Platform) -> Generator[None]:
    """While the block runs, the platform may have other deployments."""
    try:
        yield
    finally:
        again = platform.command("prefecture", "apply", "--pool", platform.pool)
        assert again.returncode == 0, again.stderr
        filter = {"flows": {"name": {"any_": ["count-words"]}}}
        for found in platform.rest("POST", "/deployments/filter", filter).json():
            platform.rest("DELETE", f"/deployments/{found['id']}")


def count(platform: Platform) -> None:
    """Have words counted by a job; the task is on every queue."""
    for queue in ("high", "normal", "low"):
        deployment = platform.rest("GET", f"/deployments/name/count-words/{queue}").json()
        assert deployment["work_queue_name"] == queue
        assert deployment["work_pool_name"] == platform.pool
        assert deployment["job_variables"] == {"max_duration": 3600}
    (platform.inputs / "speech.txt").write_text("to be or not to be")
    job = platform.submit_job("count-words/low", {"source": "speech.txt"}, "words")
    folder = platform.completed(job, "words")
    assert json.loads((folder / "words.json").read_text()) == WORDS
    assert platform.manifest(job, "words")["summary"] == {"words": 6}


def test_in_a_checkout(process_platform: Platform, tmp_path: Path) -> None:
    new, test, apply, submit = blocks("sh")
    tree = checkout(tmp_path / "tree")
    made = run_in(tree, "deployments.cli", *new.split()[1:])
    assert made.returncode == 0, made.stderr
    (tree / "flows" / "count_words.py").write_text(FLOW)
    (tree / "tests" / "flows" / "test_count_words.py").write_text(TEST)
    for command in (["ruff", "check"], ["ruff", "format", "--check"], test.split()):
        done = run_in(tree, *command)
        assert done.returncode == 0, done.stdout + done.stderr
    environment = process_platform.environment | {"PREFECT_API_URL": process_platform.api}
    with deployed(process_platform):
        words = [*apply.split()[1:], "--pool", process_platform.pool]
        done = run_in(tree, "deployments.cli", *words, environment=environment)
        assert done.returncode == 0, done.stderr
        count(process_platform)
    assert "prefecture submit count-words" in submit


def test_the_example_is_short() -> None:
    assert len([line for line in FLOW.splitlines() if line]) <= 30


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of the guide, built."""
    folder = tmp_path_factory.mktemp("acme")
    (folder / "pyproject.toml").write_text(blocks("toml")[0])
    (folder / "acme_tasks").mkdir()
    (folder / "acme_tasks" / "__init__.py").write_text('"""Tasks of Acme."""\n')
    (folder / "acme_tasks" / "count_words.py").write_text(FLOW)
    build = ("wheel", "--quiet", "--no-build-isolation", "--no-deps", "--wheel-dir", "dist", ".")
    subprocess.run([sys.executable, "-m", "pip", *build], cwd=folder, check=True)
    (found,) = (folder / "dist").glob("*.whl")
    assert f"/{found.name}" in GUIDE
    return found


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a virtual environment with Prefecture and the package."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    installed = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    ours = sysconfig.get_path("purelib")
    (installed / "prefecture.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    install = ("install", "--quiet", "--no-index", "--no-deps", "--target", str(installed))
    subprocess.run([sys.executable, "-m", "pip", *install, str(wheel)], check=True)
    return folder / "bin" / "python"


@pytest.fixture
def image(platform: Platform, wheel: Path) -> Generator[dict[str, str]]:
    """The setting that names the image of the guide, built; none for plain processes."""
    if platform.pool == "process":
        yield {}
        return
    (wheel.parents[1] / "Dockerfile").write_text(blocks("dockerfile")[0])
    tag = f"acme-jobs:{uuid4().hex[:12]}"
    client = docker.from_env()
    try:
        client.images.build(
            path=str(wheel.parents[1]),
            tag=tag,
            buildargs={"PREFECTURE_IMAGE": job_image()},
            network_mode="none",
            rm=True,
        )
        yield {"PREFECTURE_IMAGE": tag}
    finally:
        client.images.remove(tag, force=True)
        client.close()


def test_as_a_package(platform: Platform, python: Path, image: dict[str, str]) -> None:
    environment = platform.environment | {"PREFECT_API_URL": platform.api} | image
    with deployed(platform):
        done = subprocess.run(
            [str(python), "-m", "deployments.cli", "apply", "--pool", platform.pool],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        count(platform)
        # Ours are beside it, and work there too.
        job = platform.submit_job("find-primes/high", {"upper_bound": 10}, "beside")
        platform.completed(job, "beside")


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "not-installed": (
        {"entrypoint": "acme_nowhere.work.work"},
        "the flow cannot be loaded: ModuleNotFoundError: No module named 'acme_nowhere'",
    ),
    "no-such-flow": (
        {"entrypoint": "tasks.primes.sieve.nothing"},
        "the flow cannot be loaded: MissingFlowError: Flow function with name 'nothing' not found",
    ),
    "exits": (
        {"entrypoint": "{inputs}/exits.py:work"},
        "the flow cannot be loaded: its module ends the process, by sys.exit perhaps",
    ),
    "pull-step": (
        {
            "entrypoint": "flows/find_primes.py:find_primes",
            "pull_steps": [
                {"prefect.deployments.steps.set_working_directory": {"directory": "/nowhere"}}
            ],
        },
        "the flow cannot be loaded: pull step prefect.deployments.steps.set_working_directory: "
        "FileNotFoundError: ",
    ),
}


def test_what_does_not_load_says_so_in_its_state(platform: Platform) -> None:
    flow = platform.rest("POST", "/flows/", {"name": f"broken-{uuid4().hex[:8]}"}).json()["id"]
    (platform.inputs / "exits.py").write_text("raise SystemExit(0)")  # seen by every job
    jobs: dict[str, UUID] = {}
    for name, (what, _) in BROKEN.items():
        entrypoint = what["entrypoint"].format(inputs=platform.inputs)
        body = {"name": name, "flow_id": flow, "work_pool_name": platform.pool}
        body |= {"work_queue_name": "high"} | what | {"entrypoint": entrypoint}
        made = platform.rest("POST", "/deployments/", body)
        assert made.is_success, made.text
        path = f"/deployments/{made.json()['id']}/create_flow_run"
        jobs[name] = UUID(platform.rest("POST", path, {}).json()["id"])
    for name, job in jobs.items():
        run = platform.ended(job)
        assert run["state_type"] == "FAILED", run["state"]
        assert run["state"]["message"].startswith(BROKEN[name][1])
        assert "\n" not in run["state"]["message"]
    platform.rest("DELETE", f"/flows/{flow}")
