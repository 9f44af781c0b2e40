"""The layers and habits that the design promises, read off the source."""

import ast
import re
import subprocess
import sys
from collections import Counter
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("flows", "tasks", "deployments", "work_pools", "benchmarks", "tests")
OURS = frozenset(FOLDERS)
# What the outside of `tasks` may know of it.
KNOWN = {
    *(
        "tasks.contracts",
        "tasks.settings",
        "tasks.runtime.events",
        "tasks.errors",
        "tasks.runtime.importing",
        "tasks.prefect_api",
    ),
}
MAX_LINES, MAX_MODULES = 400, 15
# One file a task: they grow with what can be computed, and nobody reads them as one thing.
ONE_A_TASK = {"flows", "tests/flows"}


@cache
def repository() -> list[Path]:
    """Every file that is, or would be, in git."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted({p for name in listed.split("\0") if name and (p := ROOT / name).is_file()})


def modules(folder: str = "") -> list[Path]:
    inside = [path for path in repository() if path.suffix == ".py"]
    return [path for path in inside if path.is_relative_to(ROOT / folder)]


def label(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


@cache
def imports_of_ours(path: Path) -> frozenset[str]:
    """Every module of ours that a file imports, inside functions too; `from x import y` is x.y
    where that is a module."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                ours = node.module.partition(".")[0] in OURS
                found.add(full if ours and is_module(full) else node.module)
    return frozenset(name for name in found if name.partition(".")[0] in OURS)


def strangers(folder: str, allowed: set[str]) -> dict[str, list[str]]:
    """Modules of `folder` that import something of ours which is neither its own nor allowed."""
    permitted = allowed | {folder}
    found: dict[str, list[str]] = {}
    for path in modules(folder):
        bad = [
            name
            for name in sorted(imports_of_ours(path))
            if not any(name == ok or name.startswith(f"{ok}.") for ok in permitted)
        ]
        if bad:
            found[label(path)] = bad
    return found


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        ("tasks", set[str]()),
        ("flows", {"tasks"}),
        # `prefecture stats` reads the history, which it must be able to with the server away.
        ("deployments", KNOWN | {"tasks.storage", "tasks.history"}),
        ("work_pools", KNOWN | {"tasks.storage"}),
    ],
)
def test_layer_imports_only_what_lies_below_it(folder: str, allowed: set[str]) -> None:
    assert modules(folder)
    assert strangers(folder, allowed) == {}


def test_foundation_imports_nothing_of_ours() -> None:
    assert imports_of_ours(ROOT / "tasks" / "errors.py") == frozenset()
    inside = {"tasks.contracts"}
    assert strangers("tasks/contracts", inside) == {}


def test_who_imports_a_flow_or_a_test() -> None:
    found = {
        label(path): sorted(bad)
        for path in modules()
        if not path.is_relative_to(ROOT / "tests")
        if (bad := {n for n in imports_of_ours(path) if n.partition(".")[0] in ("flows", "tests")})
        # A benchmark starts and stops the same things as a test does.
        and not (path.is_relative_to(ROOT / "benchmarks") and "flows" not in str(bad))
    }
    assert found == {}


def test_pure_work_knows_no_prefect() -> None:
    pure = ["errors", "storage/inputs/local", "primes/sieve"]
    pure += [f"history/{name}" for name in ("aggregate", "outcomes", "queries")]
    pure += [f"history/reports/{name}" for name in ("charts", "shapes", "page")]
    pictures = "transform encoders vips beside colours foreign heic indexed shaping signatures tiff"
    pure += [f"images/{name}" for name in pictures.split()]
    files = [ROOT / "tasks" / f"{name}.py" for name in pure]
    pure_of_averages = ["exchange", "means", "partition", "progress", "scheduler", "speculation"]
    pure_of_averages += ["accumulator", "sums"]
    files += [ROOT / "tasks" / "averages" / f"{name}.py" for name in pure_of_averages]
    for folder in ("averages/reading", "contracts", "storage/results"):
        files += modules(f"tasks/{folder}")
    named = re.compile(r"^\s*(?:from|import) prefect", re.MULTILINE)
    assert [label(path) for path in files if named.search(path.read_text())] == []


def test_no_module_is_a_drawer_for_what_has_no_place() -> None:
    drawers = {"utils", "util", "helpers", "helper", "common", "misc", "shared"}
    paths = [path.relative_to(ROOT) for path in modules()]
    assert [str(path) for path in paths if drawers & {*path.with_suffix("").parts}] == []
    imported = {name for path in modules() for name in imports_of_ours(path)}
    assert sorted(name for name in imported if drawers & {*name.split(".")}) == []


def test_imports_are_absolute() -> None:
    # A flow file is loaded as a bare module: it has no package to be relative to.
    relative = [
        f"{label(path)}:{node.lineno}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert relative == []


def test_imports_of_ours_have_no_cycle() -> None:
    graph = {name_of(path): imports_of_ours(path) for path in modules() if path.name[0] != "_"}
    while leaves := {name for name, needs in graph.items() if not needs & graph.keys() - {name}}:
        graph = {name: needs for name, needs in graph.items() if name not in leaves}
    assert sorted(graph) == [], "what is left imports itself in a circle, or such a circle"


def test_no_module_is_too_long() -> None:
    lengths = {label(path): len(path.read_text().splitlines()) for path in modules()}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


def test_no_folder_is_too_full() -> None:
    counts = Counter(label(path.parent) for path in modules() if path.name != "__init__.py")
    full = {folder: count for folder, count in counts.items() if count > MAX_MODULES}
    assert {folder: count for folder, count in full.items() if folder not in ONE_A_TASK} == {}


def test_tests_have_no_packages() -> None:
    # Or tests/tasks would shadow tasks.
    assert [label(path) for path in modules("tests") if path.name == "__init__.py"] == []


def flow_files() -> list[Path]:
    return [path for path in modules("flows") if path.name != "__init__.py"]


def decorator_name(node: ast.expr) -> str:
    target = node.func if isinstance(node, ast.Call) else node
    return target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")


@pytest.mark.parametrize("path", flow_files(), ids=label)
def test_flow_file_has_one_flow_of_its_name(path: Path) -> None:
    flows = [
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if {"flow", "compute_task", "helper_flow", "platform_flow"}
        & {decorator_name(d) for d in node.decorator_list}
    ]
    assert flows == [path.stem]


@pytest.mark.parametrize("path", flow_files(), ids=label)
def test_flow_file_shadows_no_library(path: Path) -> None:
    # Prefect leaves flows/ at the front of sys.path.
    taken = {*packages_distributions(), *sys.stdlib_module_names, *OURS} - {"__init__"}
    assert path.stem not in taken


def registries() -> list[str]:
    names = {"py" + "pi": "org", "python" + "hosted": "org", "npm" + "js": "(org|com)"}
    return [rf"{name}\.{end}" for name, end in names.items()] + ["yarn" + "pkg"]


@pytest.mark.parametrize(
    "pattern",
    [*registries(), *(rf"(?<![\w.])/work/{name}\b" for name in ("main", "shared"))],
)
def test_no_file_names_a_registry_or_this_workplace(pattern: str) -> None:
    # Whoever builds this has an index of their own, configured outside of the tree.
    search = re.compile(pattern.encode(), re.IGNORECASE)
    files = [path for path in repository() if not path.is_symlink()]
    assert [label(path) for path in files if search.search(path.read_bytes())] == []
