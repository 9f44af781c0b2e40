"""What became of a drill's jobs, measured from outside: the API, the disk and the engine."""

from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

from tasks.contracts import JOB_ID_LABEL, REQUEUE_OF_LABEL, own_tags
from tests.chaos.harness.drill import Drill, Run, attempt_of
from tests.chaos.harness.leftovers import TIDY, live, orphans, siblings, stages
from tests.chaos.harness.results import places, publishers, wrong_with
from tests.chaos.harness.table import Row
from tests.support.platform import PATIENCE, wait_until

Check = Callable[..., Row]
"""The fixture `check`: judges a drill, fills in its row, and asserts that all is well."""

_POLL = 0.3  # seconds between two looks at all that there is of a drill
_KEPT = ("parameters", "name", "job_variables")


class Verdict:
    """The figures of a drill, and in words whatever is wrong.

    Waits `timeout` seconds for the jobs to end, and `tidy` for all that holds a slot or runs to be
    gone. What has ended may be left for `patience` seconds.
    """

    def __init__(
        self,
        drill: Drill,
        expect: str,
        timeout: float,
        tidy: float = PATIENCE,
        patience: float = TIDY,
    ) -> None:
        self.drill = drill
        self.platform = drill.platform
        self.row = Row(drill.fault, drill.platform.pool, len(drill.jobs))
        self.wrong: list[str] = []
        self._expect = expect
        self._lost = set[UUID]()
        reached(lambda: not drill.unfinished(), timeout)
        self._attempts = drill.attempts()
        self._judge_attempts()
        self._judge_results()
        self.row.lost = len(self._lost)
        self._judge_rest(tidy, patience)

    def _judge_attempts(self) -> None:
        for job, runs in self._attempts.items():
            history = [f"{attempt_of(run)} {run['state_name']}" for run in runs]
            if not runs or runs[-1]["state_type"] != self._expect:
                self._lost.add(job)
                message = runs[-1]["state"]["message"] if runs else ""
                self.wrong.append(f"job {job} did not end {self._expect}: {history} {message}")
            elif [attempt_of(run) for run in runs] != list(range(1, len(runs) + 1)):
                self.row.twice += 1
                self.wrong.append(f"job {job} was requeued twice: {history}")
            elif any(run["state_type"] != "CRASHED" for run in runs[:-1]):
                self.wrong.append(f"job {job} ended more than once: {history}")
            self.row.requeued += len(runs) - 1
            for before, after in pairwise(runs):
                self._judge_successor(job, before, after)

    def _judge_successor(self, job: UUID, before: Run, after: Run) -> None:
        labels = after["labels"]
        found = {
            "labels": (str(labels.get(JOB_ID_LABEL)), labels.get(REQUEUE_OF_LABEL)),
            "key": after["idempotency_key"],
            "queue": after["work_queue_name"],
            "tags": set(own_tags(after["tags"])),
        } | {name: after[name] for name in _KEPT}
        wanted: dict[str, Any] = {
            "labels": (str(job), before["id"]),
            "key": f"requeue:{job}:{attempt_of(before) + 1}",
            "queue": "high",
            "tags": set(own_tags(before["tags"])),
        } | {name: before[name] for name in _KEPT}
        for name in found:
            if found[name] != wanted[name]:
                self.wrong.append(f"job {job}: {name} {found[name]}, not {wanted[name]}")
        if after["start_time"]:
            died = self.drill.deaths.get(before["id"]) or _time(before["end_time"])
            self.row.delays.append((_time(after["start_time"]) - died).total_seconds())

    def _judge_results(self) -> None:
        root = self.platform.results
        there = places(root, self.drill.name)
        for job, directory in self.drill.jobs.items():
            folders = there.get(str(job), [])
            by = publishers(root, job)
            if len(folders) > 1 or len(by) > 1:
                self.row.twice += 1
                self.wrong.append(f"job {job} published twice: {folders}, by {by}")
            faults = [fault for folder in folders if (fault := wrong_with(folder, job))]
            if faults:
                self.row.partial += 1
                self.wrong += faults
            wanted = [root / directory / str(job)] if self._expect == "COMPLETED" else []
            if folders != wanted:
                # An attempt that completed with no result to show for it is a job lost, too.
                self._lost |= {job} if wanted and not folders else set()
                self.wrong.append(f"job {job}: results {folders}, not {wanted}")
        ours = {str(job) for job in self.drill.jobs}
        strange = {
            path
            for name, paths in there.items()
            for path in paths
            if name not in ours and path.is_relative_to(root / self.drill.name)
        }
        self.row.partial += len(strange)
        self.wrong += [f"{path} is of no job" for path in sorted(strange)]

    def _judge_rest(self, tidy: float, patience: float) -> None:
        platform = self.platform
        reached(lambda: not live(platform), tidy)
        reached(lambda: not orphans(platform, patience), tidy)
        reached(lambda: not stages(platform, patience), tidy)
        reached(lambda: not siblings(platform, self.drill.jobs), tidy)
        left, folders = orphans(platform, patience), stages(platform, patience)
        left += siblings(platform, self.drill.jobs)
        self.row.orphans = len(left)
        self.row.slots = live(platform)
        self.wrong += left + folders
        if self.row.slots:
            self.wrong.append(f"{self.row.slots} runs hold a slot for ever")

    @property
    def text(self) -> str:
        """Everything that is wrong, with the end of the supervisor's log."""
        if not self.wrong:
            return ""
        log = self.platform.home / "logs" / "supervisor.log"
        tail = log.read_text(errors="replace").splitlines()[-30:] if log.exists() else []
        return "\n".join([f"{self.row}", *self.wrong, f"--- the end of {log}", *tail])


def reached(condition: Callable[[], Any], timeout: float) -> bool:
    """Whether the condition comes true in time."""
    try:
        wait_until(condition, timeout, every=_POLL)
    except AssertionError:
        return False
    return True


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
