"""Checks whether results can be written to a disk.

Supervisors run them, and jobs that could not write their result: where no job could write, the
fault is the infrastructure's and transient; else it is that one job's.
"""

import os
import shutil
import subprocess
from pathlib import Path

from tasks.errors import ResultsUnwritable
from tasks.storage.results import local_files
from tasks.storage.results.local import LocalRoot

_LONGEST = 10.0  # seconds
# Relative names in the folder itself: a container sees it without its parent folders.
_WRITE = f"""
test -w . && test -w {local_files.STAGING} && file=$(mktemp {local_files.STAGING}/check.XXXXXX) &&
echo x > "$file"; ended=$?; test -z "$file" || rm -f "$file"; exit $ended
"""


def disk_fault(root: Path, min_free: int) -> str | None:
    """Why this process cannot write results under `root`, in one line; None where it can.

    `min_free`: bytes that must be free there.
    """
    try:
        LocalRoot(root).check()
    except ResultsUnwritable as error:
        return str(error)
    if not os.access(root, os.W_OK | os.X_OK):
        return _denied(root)
    return too_full(root, min_free)


def disk_fault_of(user: str, root: Path, min_free: int) -> str | None:
    """As `disk_fault`, for the user `uid:gid`, where this process is root.

    Where it is not, the check is for this process itself.
    """
    uid, _, gid = user.partition(":")
    fault = disk_fault(root, min_free)
    if fault is not None or os.geteuid() != 0 or int(uid) == 0:
        return fault
    done = subprocess.run(
        ["/bin/sh", "-c", _WRITE],
        cwd=root,  # entered before the user changes
        user=int(uid),
        group=int(gid),
        extra_groups=[],
        capture_output=True,
        timeout=_LONGEST,
        check=False,
    )
    return None if done.returncode == 0 else _denied(root, f" for {user}, which jobs run as")


def too_full(folder: Path, min_free: int) -> str | None:
    """Error line where less than `min_free` bytes are free in a folder; else None."""
    free = shutil.disk_usage(folder).free
    if free >= min_free:
        return None
    return (
        f"{free / 2**20:,.0f} MiB free under {folder}, "
        f"{min_free / 2**20:,.0f} MiB wanted: free some"
    )


def _denied(root: Path, whom: str = "") -> str:
    return (
        f"results cannot be written under {root}{whom}: Permission denied: give that user write "
        "access, or set PREFECTURE_CONTAINER_USER to the owner's uid:gid"
    )
