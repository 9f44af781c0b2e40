"""Killed at any line of publishing, an attempt leaves the whole result or none."""

import multiprocessing
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from uuid import UUID, uuid4

from tasks.storage.results import local_files
from tests.tasks.storage.results.attempts import CONTENT, publish

SPAWN = multiprocessing.get_context("spawn")
JOB = UUID(int=7)


class Killer:
    """A tracer that counts the lines of local_files.py, and kills this process before the nth."""

    def __init__(self, last: int) -> None:
        self.left = last

    def __call__(self, frame: FrameType, event: str, argument: object) -> "Killer | None":
        if frame.f_code.co_filename != local_files.__file__:
            return None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return self


def die_at_every_line(roots: Path) -> None:
    """One child a line, until one comes through; a root for each. Forks: imports are paid once."""
    for line in range(1, 10_000):
        root = roots / f"{line:04}"
        root.mkdir()
        child = os.fork()
        if child == 0:
            sys.settrace(Killer(line))
            publish(root, "holiday", JOB)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            return
    raise AssertionError("publishing has no end")


def test_killed_at_any_line_leaves_the_whole_or_nothing(tmp_path: Path) -> None:
    process = SPAWN.Process(target=die_at_every_line, args=(tmp_path,))
    process.start()
    process.join(240)
    assert process.exitcode == 0
    roots = sorted(tmp_path.iterdir())
    assert len(roots) > 50
    published: list[bool] = []
    for root in roots:
        folder = local_files.find(root, JOB)
        published.append(folder is not None)
        if folder is None:
            assert not (root / "holiday" / str(JOB)).exists()
        else:
            manifest = local_files.read_manifest(folder)
            local_files.verify(folder, manifest)
            assert {file.path for file in manifest.files} == set(CONTENT)
        # Whatever was left behind, the next attempt ends with the one result there is.
        after = publish(root, "holiday", JOB, attempt=2)
        assert after.attempt == (1 if folder else 2)
        local_files.verify(root / "holiday" / str(JOB), after)
    assert published == sorted(published), "once published, always published"
    assert True in published
    assert False in published


def test_what_a_killed_attempt_leaves_harms_no_other_job(tmp_path: Path) -> None:
    process = SPAWN.Process(target=die_at_every_line, args=(tmp_path,))
    process.start()
    process.join(240)
    for root in tmp_path.iterdir():
        other = uuid4()
        publish(root, "holiday", other)
        assert local_files.find(root, other) == root / "holiday" / str(other)
