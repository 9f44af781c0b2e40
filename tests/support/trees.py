"""A checkout of this tree, in which a test may change what it likes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]


def checkout(folder: Path) -> Path:
    """Copy every file that is, or would be, in git to a new folder. Returns the folder."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (TREE / name).is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(TREE / name, target)
    return folder


def run_in(
    tree: Path, *command: str, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A module of Python's, such as `deployments.cli`, with the code of a checkout."""
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tree,
        env=(environment or dict(os.environ)) | {"PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
