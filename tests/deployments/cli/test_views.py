"""What people read, in 80 columns and in more."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from rich.console import Console

from deployments.cli.output.views import explanation, how_many, jobs_table, printable
from deployments.cli.where import Where, moment
from deployments.jobs.queries.estimate import Estimate
from deployments.jobs.queries.selection import Selection
from deployments.jobs.records import Explanation, JobRecord, JobState
from tasks.errors import InvalidPayload

LONG = "the source 'photos/2026' names no file under the inputs root " * 5


def job(state: JobState = JobState.FAILED, **more: object) -> JobRecord:
    now = datetime.now(UTC)
    known: dict[str, object] = {
        "job": uuid4(),
        "task": "compress-images",
        "name": "brave-fox",
        "results_directory": "holiday/2026/november",
        "queue": "normal",
        "tags": ("images", "user:anna"),
        "state": state,
        "attempt": 2,
        "due": now - timedelta(minutes=3),
        "started": now - timedelta(minutes=1),
        "ended": now,
        "waited": 120.0,
        "ran": 60.0,
        "reason": LONG if state is JobState.FAILED else "",
    }
    return JobRecord(**(known | more))  # pyright: ignore[reportArgumentType]


def shown(width: int, *jobs: JobRecord) -> list[str]:
    console = Console(width=width, emoji=False)
    with console.capture() as capture:
        console.print(jobs_table(jobs, width))
    return [line.rstrip() for line in capture.get().splitlines() if line.strip()]


def test_list_that_is_cut_says_of_how_many() -> None:
    assert how_many(20, 1312) == "20 of 1,312 jobs: --limit 0 lists all"
    assert how_many(20, None) == "the 20 newest of more: --limit 0 lists all"


@pytest.mark.parametrize("width", [80, 120, 160])
def test_line_of_a_job_fits_and_is_whole(width: int) -> None:
    record = job()
    head, _, line, *more = shown(width, record)
    assert all(len(each) <= width for each in (head, line, *more))
    for word in (str(record.job)[:8], "compress-images", "failed (2)", "3m00s", "1m00s"):
        assert word in line
    assert ("reason" in head, "queue" in head) == (width >= 120, width >= 120)
    if width >= 120:
        assert "the source" in line
        assert more == []


def test_jobs_of_the_same_millisecond_have_different_ids() -> None:
    ids = [UUID(f"01a22581-7ec2-7b6e-a86{n}-1e63a2fef4a1") for n in range(3)]
    lines = shown(80, *(job(job=id) for id in ids))[2:]
    assert len({line.split()[0] for line in lines if line.lstrip().startswith("01a2")}) == 3


def test_name_cannot_steer_the_terminal() -> None:
    assert printable("a\x1b[2Jb") == "a\N{REPLACEMENT CHARACTER}[2Jb"
    assert "\x1b" not in "".join(shown(160, job(results_directory="x\x1b]0;y\x07")))


def test_why_a_job_waits() -> None:
    found = Explanation(
        job(JobState.WAITING, attempt=1, ended=None, started=None),
        ["4 jobs are served before it, and 2 jobs are running on the pool docker"],
        4,
        None,
        Estimate("starts", 90.0, "4 before it, 2 running, 2 at once"),
    )
    text = "\n".join(explanation(found))
    assert "waiting for 2m00s" in text
    assert "place     number 5 of the waiting jobs" in text
    assert "starts in about 1m30s, at " in text
    assert "(4 before it, 2 running, 2 at once)" in text


def test_options_become_a_selection() -> None:
    assert Where().selection().is_everything
    chosen = Where(
        state=(JobState.FAILED,), tag=("a",), since="24h", until="2099-01-01"
    ).selection()
    assert chosen.states == (JobState.FAILED,)
    assert chosen.since is not None
    assert datetime.now(UTC) - chosen.since >= timedelta(hours=24)
    assert chosen.until == datetime(2099, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "yesterday", "7 days", "0h", "-1h", "2026-13-01"])
def test_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidPayload, match="--until"):
        moment(text, "--until")


@pytest.mark.parametrize(
    "wrong",
    [
        {"queue": "hihg"},
        {"tags": ("",)},
        {"directory": "/"},
        {"since": datetime(2026, 2, 1, tzinfo=UTC), "until": datetime(2026, 1, 1, tzinfo=UTC)},
    ],
)
def test_selection_that_can_match_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidPayload):
        Selection(**wrong)  # pyright: ignore[reportArgumentType]
