"""What `prefecture new-task` writes works as it is; what it refuses leaves everything alone."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployments.scaffold.new_task import new_task
from tasks.errors import OperatorError
from tests.support.trees import TREE, checkout, run_in

LONGEST = "a-name-of-forty-characters-is-the-longes"
ENTRY = {
    "name": "normal",
    "entrypoint": "flows/count_words.py:count_words",
    "tags": ["compute", "count-words"],
    "work_pool": {"name": "docker", "work_queue_name": "normal"},
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """As much of a checkout as the three need."""
    (tmp_path / "flows").mkdir()
    (tmp_path / "tasks").symlink_to(TREE / "tasks")  # by which ruff tells our modules from others
    for name in ("prefect.yaml", "pyproject.toml"):
        (tmp_path / name).write_text((TREE / name).read_text())
    return tmp_path


def everything(tree: Path) -> dict[str, str]:
    files = (path for path in tree.rglob("*") if path.is_file() and "tasks" not in path.parts)
    return {str(path.relative_to(tree)): path.read_text() for path in files}


def deployments(tree: Path) -> list[dict[str, Any]]:
    return yaml.safe_load((tree / "prefect.yaml").read_text())["deployments"]


def test_it_adds_one_entry_one_flow_and_one_test(tree: Path) -> None:
    before, manifest = deployments(tree), (tree / "prefect.yaml").read_text()
    written = [str(path.relative_to(tree)) for path in new_task("count-words", tree)]
    flow, test = "flows/count_words.py", "tests/flows/test_count_words.py"
    assert written == [flow, "prefect.yaml", test]
    assert everything(tree).keys() == {*written, "pyproject.toml"}
    assert deployments(tree) == [*before, ENTRY]
    assert (tree / "prefect.yaml").read_text().startswith(manifest)


@pytest.mark.parametrize("name", ["a", "b2-c", "count-words", LONGEST])
def test_ruff_finds_nothing(tree: Path, name: str) -> None:
    new_task(name, tree)
    for command in (["check"], ["format", "--check"]):
        done = run_in(tree, "ruff", *command, "--no-cache", "flows", "tests")
        assert done.returncode == 0, done.stdout


def test_several_tasks_stand_beside_one_another(tree: Path) -> None:
    before = len(deployments(tree))
    for name in ("first", "second", "third"):
        new_task(name, tree)
    assert len(deployments(tree)) == before + 3


def test_its_own_test_passes_and_so_do_those_of_the_tree(tmp_path: Path) -> None:
    """In a checkout, with no other change."""
    tree = checkout(tmp_path / "tree")
    done = run_in(tree, "deployments.cli", "new-task", "count-words")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [
        "flows/count_words.py",
        "prefect.yaml",
        "tests/flows/test_count_words.py",
    ]
    done = run_in(tree, "pytest", "-q", "tests/flows", "-k", "count_words or anchors or flow_file")
    assert done.returncode == 0, done.stdout


@pytest.mark.thorough
def test_pyright_finds_nothing(tree: Path) -> None:
    new_task(LONGEST, tree)
    # A package, as in a checkout: the flows of this one would come before a folder without it.
    (tree / "flows" / "__init__.py").touch()
    settings = {"typeCheckingMode": "strict", "venvPath": str(TREE), "venv": ".venv"}
    settings["include"] = ["flows", "tests"]  # pyright: ignore[reportArgumentType]
    (tree / "pyrightconfig.json").write_text(json.dumps(settings | {"extraPaths": [str(TREE)]}))
    done = run_in(tree, "pyright", environment=dict(os.environ))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "name",
    [
        *("", "Count", "count_words", "2words", "-x", "x-", "a--b", "a b", "../x", "a/b", "é"),
        *("a\n", f"{LONGEST}t", "a" * 41),
    ],
)
def test_a_name_that_is_none_is_refused(tree: Path, name: str) -> None:
    before = everything(tree)
    with pytest.raises(
        OperatorError, match=r"^'.*' is no name of a task: use at most 40 lower-case"
    ):
        new_task(name, tree)
    assert everything(tree) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("import", "is a keyword of Python"),
        ("csv", "is the name of a Python package"),
        ("polars", "is the name of a Python package"),
        ("tasks", "is the name of a Python package"),
        ("work-pools", "is the name of a Python package"),
        ("payload", "is a name that the file of the task uses itself"),
        ("results-directory", "is a name that the file of the task uses itself"),
        ("open-job", "is a name that the file of the task uses itself"),
        ("run-locally", "is a name that the file of the task uses itself"),
        ("tmp-path", "is a name that the file of the task uses itself"),
        ("result", "is a name that the file of the task uses itself"),
        ("len", "is a name that the file of the task uses itself"),
        ("find-primes", "deploys find-primes already"),
    ],
)
def test_a_name_that_is_taken_is_refused(tree: Path, name: str, message: str) -> None:
    before = everything(tree)
    with pytest.raises(OperatorError, match=message):
        new_task(name, tree)
    assert everything(tree) == before


@pytest.mark.parametrize("file", ["flows/count_words.py", "tests/flows/test_count_words.py"])
def test_a_file_that_is_there_is_left_alone(tree: Path, file: str) -> None:
    (tree / file).parent.mkdir(parents=True, exist_ok=True)
    (tree / file).write_text("mine")
    before = everything(tree)
    with pytest.raises(OperatorError, match=rf"{file} exists already: choose another name"):
        new_task("count-words", tree)
    assert everything(tree) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no .*prefect.yaml: call new-task in a checkout of Prefecture"),
        ("", "does not end with its deployments"),
        ("deployments: []\n", "does not end with its deployments"),
        ("- {", "does not end with its deployments"),
    ],
)
def test_no_place_for_the_entry(tree: Path, text: str | None, message: str) -> None:
    manifest = tree / "prefect.yaml"
    manifest.unlink() if text is None else manifest.write_text(text)
    before = everything(tree)
    with pytest.raises(OperatorError, match=message):
        new_task("count-words", tree)
    assert everything(tree) == before


def test_a_manifest_that_ends_with_something_else(tree: Path) -> None:
    manifest = tree / "prefect.yaml"
    manifest.write_text(manifest.read_text() + "variables:\n  - a\n")
    before = everything(tree)
    with pytest.raises(OperatorError, match="does not end with its deployments, so that none can"):
        new_task("count-words", tree)
    assert everything(tree) == before
