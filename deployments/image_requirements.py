"""Print the part of requirements.lock that an image needs: some dependencies, and theirs.

One lock file serves the host and the images. The Dockerfiles run this file with the base image's
python3, before anything is installed: it imports the standard library only.

    python3 image_requirements.py core PYPROJECT LOCK     packages of the image of jobs
    python3 image_requirements.py host PYPROJECT LOCK     packages of the image of the server
    python3 image_requirements.py build PYPROJECT LOCK    pip, and what builds source packages
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

USAGE = "usage: image_requirements.py core|host|build PYPROJECT LOCK"


class LockError(Exception):
    """The lock is malformed, or lacks a package that pyproject.toml requires."""


@dataclass
class Pin:
    """One pinned package of the lock: its lines, and the packages that require it."""

    name: str
    lines: list[str] = field(default_factory=list[str])
    parents: set[str] = field(default_factory=set[str])


def normalized(requirement: str) -> str:
    """The name of the package in a requirement, normalized (PEP 503)."""
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement.strip())
    if found is None:
        raise LockError(f"{requirement!r} does not start with a package's name")
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def root_names(part: str, pyproject: str) -> list[str]:
    """Names in `[project] dependencies` (core), these and the extra `host` (host), or pip and
    those in `[build-system] requires` (build).

    The lock does not tell core dependencies from those of extras.
    """
    tables = tomllib.loads(pyproject)
    core, build = tables["project"]["dependencies"], tables["build-system"]["requires"]
    extra = tables["project"].get("optional-dependencies", {}).get("host", [])
    lines = {"core": core, "host": [*core, *extra], "build": ["pip", *build]}[part]
    return [normalized(line) for line in lines]


def pins(lock: str) -> list[Pin]:
    """Every pin of a lock made by uv with hashes and `# via` annotations.

    A package has two pins where its version depends on a marker. Raises LockError on a line of any
    other kind, and on a pin without a hash.
    """
    found: list[Pin] = []
    for number, line in enumerate(lock.splitlines(), start=1):
        if re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*==", line):
            found.append(Pin(normalized(line), [line]))
        elif found and line.startswith("    --hash="):
            found[-1].lines.append(line)
        elif found and line.startswith("    #"):
            parent = line.strip().removeprefix("#").strip().removeprefix("via").strip()
            # "prefecture (pyproject.toml)" is no package of the lock, so it can stay.
            found[-1].parents |= {parent} if parent else set()
        elif line.strip() and not line.startswith("#"):
            raise LockError(f"requirements.lock, line {number}: not a pin, hash or note: {line!r}")
    for pin in found:
        if not any("--hash=" in line for line in pin.lines):
            raise LockError(f"requirements.lock: {pin.lines[0]!r} has no hash")
    return found


def closure(roots: Iterable[str], locked: Iterable[Pin]) -> list[Pin]:
    """The pins of the roots and of everything they require, in the lock's order.

    The lock does not say which extra of a parent requires a package: packages that only an extra
    requires are included too. Raises LockError for a root that the lock does not hold.
    """
    locked = list(locked)
    needed = set(roots)
    missing = sorted(needed - {pin.name for pin in locked})
    if missing:
        raise LockError(f"not in requirements.lock: {', '.join(missing)}; make the lock again")
    children: dict[str, set[str]] = {}
    for pin in locked:
        for parent in pin.parents:
            children.setdefault(parent, set()).add(pin.name)
    unvisited = list(needed)
    while unvisited:
        new = children.get(unvisited.pop(), set()) - needed
        needed |= new
        unvisited += new
    return [pin for pin in locked if pin.name in needed]


def image_requirements(part: str, pyproject: Path, lock: Path) -> str:
    """A requirements file for `pip --require-hashes --no-deps`: the lock's own lines."""
    kept = closure(root_names(part, pyproject.read_text()), pins(lock.read_text()))
    return "".join(f"{line}\n" for pin in kept for line in pin.lines)


def main(arguments: list[str]) -> int:
    """Print the requirements, or the error as one line on stderr. Returns the exit code."""
    if len(arguments) != 3 or arguments[0] not in ("core", "host", "build"):
        print(USAGE, file=sys.stderr)
        return 2
    part, pyproject, lock = arguments
    try:
        print(image_requirements(part, Path(pyproject), Path(lock)), end="")
    except (LockError, OSError) as error:
        print(f"image_requirements: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
