"""The stages of a run as they were when the broker first heard of it.

Every stage of a host has its place in one folder, which each job may write: it could give another
job's stage its own name. So the broker opens those of a run before the run has read anything of its
user's, and mounts no other folder than what it holds open.
"""

import os
import weakref
from collections.abc import Mapping
from pathlib import Path

from tasks.containers.broker.http import Refused
from tasks.containers.broker.runs import Run

STAGING = ".staging"
"""Under the folder that jobs write: see tasks/storage/results/local_files.py."""
FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a folder is opened: without following a link."""
_MOST = 8  # of one run: one that was put back in its queue may have left an earlier one


class Stage:
    """A folder that is open while this object is in use."""

    def __init__(self, place: Path) -> None:
        """Raises OSError where it is no folder."""
        self.descriptor = os.open(place, FOLDER)
        weakref.finalize(self, os.close, self.descriptor)


def stages_of(run: Run, written: Path) -> dict[str, Stage]:
    """The stages of a run under the folder that jobs write, by their names."""
    places = sorted((written / STAGING).glob(f"{run.job}.{run.id}.*"))
    found = dict[str, Stage]()
    for place in places[:_MOST]:
        try:
            found[place.name] = Stage(place)
        except OSError:  # it has just been removed, or is a link: nothing of it is mounted
            continue
    return found


def stage_named(name: str, held: Mapping[str, Stage]) -> Stage:
    """The stage of a name among those that are held. Raises Refused for any other."""
    if (stage := held.get(name)) is None:
        raise Refused(403, f"{name[:200]} was no stage of this run when it first asked")
    return stage
