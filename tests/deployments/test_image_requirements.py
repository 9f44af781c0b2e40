"""The image gets the lock's own lines for the core dependencies' closure, and nothing else."""

import re
from importlib.metadata import distribution
from pathlib import Path
from textwrap import dedent

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deployments.image_requirements import (
    LockError,
    closure,
    image_requirements,
    main,
    pins,
    root_names,
)

ROOT = Path(__file__).parents[2]
PYPROJECT, LOCK = ROOT / "pyproject.toml", ROOT / "requirements.lock"

SMALL_PROJECT = """
[build-system]
requires = ["setuptools>=80"]
[project]
name = "house"
dependencies = ["Roof_Tiles[red]>=1", "door==2"]
[project.optional-dependencies]
dev = ["hammer"]
"""
SMALL_LOCK = dedent("""\
    # made by hand
    clay==4 ; python_full_version < '3.12' \\
        --hash=sha256:aa \\
        --hash=sha256:ab
        # via roof-tiles
    clay==5 ; python_full_version >= '3.12' \\
        --hash=sha256:ac
        # via
        #   hammer
        #   roof-tiles
    door==2 \\
        --hash=sha256:ad
        # via house (pyproject.toml)
    hammer==7 \\
        --hash=sha256:ae
        # via house (pyproject.toml)
    nail==8 \\
        --hash=sha256:af
        # via hammer
    pip==26 \\
        --hash=sha256:b3
        # via house (pyproject.toml)
    roof-tiles==1 \\
        --hash=sha256:b0
        # via house (pyproject.toml)
    setuptools==80 \\
        --hash=sha256:b1
        # via house (pyproject.toml)
    water==9 \\
        --hash=sha256:b2
        # via clay
    """)


@pytest.fixture
def core() -> str:
    """What the image of this repository gets."""
    return image_requirements("core", PYPROJECT, LOCK)


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, Path]:
    """A project and a lock that can be read at a glance."""
    project, lock = tmp_path / "pyproject.toml", tmp_path / "requirements.lock"
    project.write_text(SMALL_PROJECT)
    lock.write_text(SMALL_LOCK)
    return project, lock


def requirements(text: str) -> dict[str, list[Requirement]]:
    """The requirements of a file, by name, read by the parser that pip uses."""
    found: dict[str, list[Requirement]] = {}
    for line in text.splitlines():
        if not line.startswith(" "):
            requirement = Requirement(line.removesuffix("\\"))
            found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def installed_closure(roots: list[Requirement]) -> set[str]:
    """What the installed packages' own metadata say is needed here: the lock's second opinion."""
    seen: set[tuple[str, str]] = set()
    ahead = [(root.name, extra) for root in roots for extra in ("", *root.extras)]
    while ahead:
        name, extra = ahead.pop()
        if (canonicalize_name(name), extra) in seen:
            continue
        seen.add((canonicalize_name(name), extra))
        for line in distribution(name).requires or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                ahead += [(needed.name, wanted) for wanted in ("", *needed.extras)]
    return {name for name, _ in seen}


def test_core_holds_what_jobs_import_and_no_tool(core: str) -> None:
    names = requirements(core).keys()
    assert {"prefect", "pyvips", "pyvips-binary", "pyarrow", "numpy", "pydantic"} <= names
    unwanted = {"pytest", "pyright", "ruff", "playwright", "moto", "pillow-heif"}
    assert not unwanted & names


def test_core_is_what_the_installed_packages_ask_for(core: str) -> None:
    here = {
        name
        for name, pinned in requirements(core).items()
        if any(pin.marker is None or pin.marker.evaluate() for pin in pinned)
    }
    roots = [Requirement(name) for name in root_names("core", PYPROJECT.read_text())]
    assert here == installed_closure(roots)


def test_every_line_is_the_locks_own_and_every_pin_keeps_all_its_hashes(core: str) -> None:
    locked = re.split(r"\n(?=[^ ])", LOCK.read_text())
    kept = re.split(r"\n(?=[^ ])", core)
    without_notes = [
        "\n".join(line for line in block.splitlines() if not line.startswith("    #"))
        for block in locked
    ]
    for block in kept:
        assert block.rstrip("\n") in without_notes
        lines = block.splitlines()
        assert len(lines) > 1
        assert all(re.fullmatch(r" {4}--hash=sha256:[0-9a-f]{64}( \\)?", x) for x in lines[1:])
        # pip reads on after a backslash: the last line of a pin has none, all others have one.
        assert [x.endswith("\\") for x in lines] == [True] * (len(lines) - 1) + [False]


def test_each_name_is_pinned_once_for_this_interpreter(core: str) -> None:
    for name, pinned in requirements(core).items():
        here = [pin for pin in pinned if pin.marker is None or pin.marker.evaluate()]
        assert len(here) <= 1, name
        assert all(str(pin.specifier).startswith("==") for pin in pinned)


def test_build_is_what_builds_source_packages() -> None:
    assert requirements(image_requirements("build", PYPROJECT, LOCK)).keys() == {
        "pip",
        "setuptools",
    }


def test_a_closure_follows_the_notes_of_the_lock(small: tuple[Path, Path]) -> None:
    assert image_requirements("core", *small) == dedent("""\
        clay==4 ; python_full_version < '3.12' \\
            --hash=sha256:aa \\
            --hash=sha256:ab
        clay==5 ; python_full_version >= '3.12' \\
            --hash=sha256:ac
        door==2 \\
            --hash=sha256:ad
        roof-tiles==1 \\
            --hash=sha256:b0
        water==9 \\
            --hash=sha256:b2
        """)


def test_a_core_dependency_that_the_lock_lacks_is_named() -> None:
    with pytest.raises(LockError, match=r"not in requirements.lock: gate, wall"):
        closure(["door", "wall", "gate"], pins(SMALL_LOCK))


def test_a_pin_without_a_hash_is_named() -> None:
    with pytest.raises(LockError, match=r"'door==2' has no hash"):
        pins("door==2\n    # via house (pyproject.toml)\n")


@pytest.mark.parametrize("line", ["door>=2", "--index-url something", "-e ."])
def test_a_line_of_another_kind_is_refused(line: str) -> None:
    with pytest.raises(LockError, match="line 2"):
        pins(f"# a lock\n{line}\n")


def test_the_command_prints_the_requirements(
    small: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", *map(str, small)]) == 0
    assert capsys.readouterr().out == dedent("""\
        pip==26 \\
            --hash=sha256:b3
        setuptools==80 \\
            --hash=sha256:b1
        """)


def test_the_command_says_in_one_line_what_is_wrong(
    small: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    project, lock = small
    project.write_text(SMALL_PROJECT.replace("door==2", "wall"))
    assert main(["core", str(project), str(lock)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (
        "image_requirements: not in requirements.lock: wall; make the lock again\n"
    )
    assert main(["everything", str(project), str(lock)]) == 2
    assert main(["core", str(project), "no-such-file"]) == 1
