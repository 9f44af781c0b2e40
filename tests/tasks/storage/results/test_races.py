"""Many attempts at once, and a reader that looks on: exactly one result, never a partial one."""

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from uuid import UUID, uuid4

from tasks.contracts import Manifest
from tasks.storage.results import local_files
from tests.tasks.storage.results.attempts import left_in_staging, publish

# Fresh interpreters: no lock or thread of pytest's is inherited.
SPAWN = multiprocessing.get_context("spawn")
ATTEMPTS, ROUNDS = 3, 150
Outcomes = SimpleQueue[tuple[str, str]]


def end_well(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.join(240)
    assert [process.exitcode for process in processes] == [0] * len(processes)


def start(target: Callable[..., None], *arguments: object) -> BaseProcess:
    process = SPAWN.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def race(root: Path, jobs: list[UUID], me: int, line: Barrier, outcomes: Outcomes) -> None:
    for job in jobs:
        line.wait(240)
        try:
            manifest = publish(root, "race", job, me, {"who": bytes([me]), "more/of it": b"x" * 99})
        except Exception as error:  # noqa: BLE001  # handed to the test, which fails on it
            outcomes.put((str(job), repr(error)))
        else:
            outcomes.put((str(job), manifest.model_dump_json()))


def test_of_attempts_at_once_one_publishes_and_all_return_its_manifest(tmp_path: Path) -> None:
    jobs = [uuid4() for _ in range(ROUNDS)]
    line, outcomes = SPAWN.Barrier(ATTEMPTS), SPAWN.SimpleQueue()
    racers = [start(race, tmp_path, jobs, me, line, outcomes) for me in range(1, ATTEMPTS + 1)]
    returned: dict[str, set[str]] = {}
    for _ in range(ATTEMPTS * ROUNDS):
        job, outcome = outcomes.get()
        returned.setdefault(job, set()).add(outcome)
    end_well(racers)
    winners: set[int] = set()
    for job in jobs:
        folder = tmp_path / "race" / str(job)
        manifest = local_files.read_manifest(folder)
        assert returned[str(job)] == {manifest.model_dump_json()}
        local_files.verify(folder, manifest)
        assert (folder / "who").read_bytes() == bytes([manifest.attempt])
        winners.add(manifest.attempt)
    assert left_in_staging(tmp_path) == []
    assert len(winners) > 1, "no race was run"


def open_and_close(root: Path, job: UUID, line: Barrier, outcomes: Outcomes) -> None:
    line.wait(240)
    for _ in range(5000):
        try:
            with local_files.open_stage(root, "stages", job, uuid4()) as stage:
                ok = stage.files.is_dir() and stage.scratch.is_dir()
        except Exception as error:  # noqa: BLE001  # handed to the test, which fails on it
            outcomes.put((str(job), repr(error)))
            return
        assert ok
    outcomes.put((str(job), "ok"))


def test_attempt_that_ends_never_takes_the_stage_of_one_that_begins(tmp_path: Path) -> None:
    job = uuid4()
    line, outcomes = SPAWN.Barrier(2), SPAWN.SimpleQueue()
    both = [start(open_and_close, tmp_path, job, line, outcomes) for _ in range(2)]
    assert [outcomes.get()[1] for _ in both] == ["ok", "ok"]
    end_well(both)
    assert left_in_staging(tmp_path) == []


def publish_all(root: Path, jobs: list[UUID], done: Event) -> None:
    content = {f"{number}/file": b"x" * 4000 for number in range(12)}
    for job in jobs:
        publish(root, "watched", job, content=content)
    done.set()


def test_reader_never_sees_a_partial_result(tmp_path: Path) -> None:
    jobs = [uuid4() for _ in range(100)]
    done = SPAWN.Event()
    writer = start(publish_all, tmp_path, jobs, done)
    whole: dict[Path, Manifest] = {}
    looks, last = 0, False
    while not last:
        last = done.is_set() or not writer.is_alive()  # then one more look
        looks += 1
        watched = tmp_path / "watched"
        for folder in map(Path, os.scandir(watched)) if watched.exists() else ():
            if folder not in whole:
                # What can be seen at all is whole: the manifest is there, and every file.
                whole[folder] = local_files.read_manifest(folder)
                local_files.verify(folder, whole[folder])
    end_well([writer])
    assert {folder.name for folder in whole} == {str(job) for job in jobs}
    assert looks > len(jobs), "the reader was too slow to see anything come"
