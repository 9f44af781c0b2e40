"""Writes a new compute task: its flow, its test and its entry in prefect.yaml."""

import ast
import keyword
import re
import sys
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any, cast

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from deployments.program import ENTRY_POINTS
from tasks.errors import OperatorError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 40  # characters: with a longer name, lines of the files are too long
_PACKAGES = ("flows", "tasks", "deployments", "work_pools", "benchmarks", "tests", "docs")


def new_task(name: str, tree: Path) -> list[Path]:
    """Write the flow, the entry and the test of a new task in the checkout `tree`.

    Returns their paths. Raises OperatorError, and writes nothing, where the name is invalid or
    taken, a file exists, or the checkout has no prefect.yaml.
    """
    function = name.replace("-", "_")
    manifest = tree / "prefect.yaml"
    flow, test = tree / "flows" / f"{function}.py", tree / "tests" / "flows" / f"test_{function}.py"
    if not manifest.is_file():
        raise OperatorError(
            f"there is no {manifest}: call new-task in a checkout of Prefecture, or name the task "
            f"by the entry point {ENTRY_POINTS} of a package of your own"
        )
    _check_name(name, function)
    for path in (flow, test):
        if path.exists():
            raise OperatorError(f"{path} exists already: choose another name, or remove it")
    texts = _texts(name, function)
    text = _with_entry(manifest, name, function, texts["entry.yaml"])
    for path, content in ((flow, texts["flow.py"]), (test, texts["test.py"])):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    manifest.write_text(text)
    return [flow, manifest, test]


def _check_name(name: str, function: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        raise OperatorError(
            f"{name!r} is no name of a task: use at most {_LONGEST} lower-case letters, digits and "
            "single hyphens, a letter first, such as count-words"
        )
    if keyword.iskeyword(function):
        raise OperatorError(f"{name} is a keyword of Python: choose another name")
    # Prefect leaves flows/ at the front of sys.path: the file would hide the package.
    if function in _packages():
        raise OperatorError(f"{name} is the name of a Python package here: choose another name")
    # Rendered with a neutral name, the files show the names that they use themselves.
    texts = _texts("x", "x")
    used = set[str]().union(*(_identifiers(texts[part]) for part in ("flow.py", "test.py")))
    if {function, _class_of(name)} & used - {"x", "X"}:
        raise OperatorError(
            f"{name} is a name that the file of the task uses itself: choose another"
        )


@cache
def _packages() -> frozenset[str]:
    return frozenset({*packages_distributions(), *sys.stdlib_module_names, *_PACKAGES})


def _identifiers(text: str) -> set[str]:
    """All names in a module's text: imported, assigned, read, or of parameters."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.alias(name=name):
                found.add(name)
            case _:
                pass
    return found


def _class_of(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))


def _texts(name: str, function: str) -> dict[str, str]:
    """The text of each file, by the name of its template."""
    templates = Environment(
        loader=PackageLoader("deployments.scaffold", "."),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701, RUF100  # Python and YAML, from a checked name
    )
    words = {"name": name, "function": function, "payload": _class_of(name)}
    return {
        part: templates.get_template(f"{part}.jinja").render(words)
        for part in ("flow.py", "test.py", "entry.yaml")
    }


def _with_entry(manifest: Path, name: str, function: str, entry: str) -> str:
    """The text of prefect.yaml with a deployment added at its end."""
    text = manifest.read_text()
    before, entrypoint = _entrypoints(text), f"flows/{function}.py:{function}"
    if entrypoint in before:
        raise OperatorError(f"{manifest} deploys {name} already: choose another name")
    text = text.rstrip("\n") + "\n" + entry
    if _entrypoints(text) != [*before, entrypoint]:
        raise OperatorError(
            f"{manifest} does not end with its deployments, so that none can be added: move them "
            "to the end of the file"
        )
    return text


def _entrypoints(text: str) -> list[str]:
    """The entrypoints of the deployments in a prefect.yaml; empty where it is malformed."""
    try:
        content: Any = yaml.safe_load(text)
        deployments = cast("list[dict[str, Any]]", content["deployments"])
        return [str(entry["entrypoint"]) for entry in deployments]
    except (yaml.YAMLError, KeyError, TypeError):
        return []
