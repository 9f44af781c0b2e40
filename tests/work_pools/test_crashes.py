"""What each kind of crash means, on the very messages that workers and engines leave."""

from uuid import UUID

import pytest
from prefect.states import Crashed, Running, Scheduled

from tasks.contracts import INFRASTRUCTURE
from work_pools.supervisor.crashes import RULES, Crash, Verdict, backoff, judge, message_of
from work_pools.supervisor.infrastructure.instance import Exit

EXITED = "Flow run infrastructure exited with non-zero status code {}. Some explanation."
SUBMIT = "Failed to submit flow run to infrastructure: "
NO_IMAGE = "CannotPullContainerError: no such image"
JOB = UUID("0d5c6c1e-52f6-4f2e-9d5a-4a3f5f0f9a01")


@pytest.mark.parametrize(
    ("crash", "reason"),
    [
        (Crash(EXITED.format(137)), "killed (exit code 137)"),
        (Crash(EXITED.format(-9)), "killed (exit code -9)"),
        (Crash(EXITED.format(137), Exit(code=143)), "killed (exit code 143)"),
        (
            Crash(EXITED.format(137), Exit(code=137, out_of_memory=True, limit=2**31)),
            "out of memory: the limit is 2,048 MiB; the job variable mem_limit raises it",
        ),
        (
            Crash(f"{SUBMIT}RuntimeError: Could not connect to Docker."),
            "could not start: the Docker engine does not answer",
        ),
        (
            Crash(f"{SUBMIT}ImageNotFound: 404 Client Error: no such image: nowhere:1"),
            "could not start: ImageNotFound: 404 Client Error: no such image: nowhere:1",
        ),
        (
            Crash("lost: its container or process is gone"),
            "crashed: lost: its container or process is gone",
        ),
        (
            Crash("lost: its container or process is gone", Exit(code=137)),
            "killed (exit code 137)",
        ),
        (
            Crash(EXITED.format(1), Exit(code=1, tail="httpx.ConnectError: refused\n")),
            f"crashed (exit code 1): {EXITED.format(1)}",
        ),
        (Crash(""), "crashed: "),
        (
            Crash("lost: its container or process ended before it ran", Exit(stopped=NO_IMAGE)),
            f"its task in ECS ended: {NO_IMAGE}",
        ),
        (
            Crash(EXITED.format(137), Exit(code=137, stopped="Essential container exited")),
            "killed (exit code 137)",
        ),
        (
            Crash("infrastructure: the container was ended by SIGKILL", Exit(code=0)),
            "the container was ended by SIGKILL",
        ),
    ],
)
def test_faults_of_the_infrastructure_are_tried_again(crash: Crash, reason: str) -> None:
    verdict = judge(crash)
    assert verdict.retry
    assert verdict.reason == reason


@pytest.mark.parametrize(
    ("crash", "words"),
    [
        (Crash(EXITED.format(125)), "the job's command cannot run (exit code 125)"),
        (
            Crash(EXITED.format(0), Exit(code=126, error="permission denied")),
            "the job's command cannot run (exit code 126): permission denied",
        ),
        (
            Crash(f'{SUBMIT}APIError: exec: "pithon": executable file not found in $PATH'),
            "executable file not found",
        ),
        (
            Crash(EXITED.format(1), Exit(code=1, tail="No module named work_pools.entrypoint.run")),
            "the flow cannot be loaded: No module named work_pools.entrypoint.run",
        ),
        (
            Crash(EXITED.format(1), Exit(code=1, tail="Traceback\nImportError: no libvips\nend")),
            "the flow cannot be loaded: ImportError: no libvips",
        ),
        (
            Crash(f"{EXITED.format(1)} SignatureMismatchError: Function expects parameters"),
            "parameters do not fit this task",
        ),
    ],
)
def test_faults_of_the_job_are_final(crash: Crash, words: str) -> None:
    verdict = judge(crash)
    assert not verdict.retry
    assert words in verdict.reason
    assert "\n" not in verdict.reason


def test_out_of_memory_is_reported_by_the_flag_and_not_guessed_from_the_exit_code() -> None:
    # Prefect's worker says so for every 137.
    guess = f"{EXITED.format(137)} Process was killed, likely due to an out-of-memory condition."
    assert "memory" not in judge(Crash(guess)).reason


def test_a_lost_import_in_the_output_of_a_killed_job_is_not_its_end() -> None:
    exit = Exit(code=137, tail="ImportError: optional, never mind")
    assert judge(Crash(EXITED.format(137), exit)).retry


def test_a_file_that_is_called_like_an_error_is_none() -> None:
    exit = Exit(code=137, tail="fetching SignatureMismatchError.jpg")
    assert judge(Crash(EXITED.format(137), exit)).retry


def test_the_last_rule_fits_everything_and_tries_again() -> None:
    assert RULES[-1].fits(Crash("something no one has seen before"))
    assert RULES[-1].retry


def test_backoff() -> None:
    assert backoff(JOB, 2, 5) == 0
    waits = [backoff(JOB, attempt, 5) for attempt in (3, 4, 5)]
    for wait, middle in zip(waits, (5, 10, 20), strict=True):
        assert middle * 0.5 <= wait <= middle * 1.5
    assert waits == [backoff(JOB, attempt, 5) for attempt in (3, 4, 5)]
    assert backoff(JOB, 60, 5) <= 900
    others = {backoff(UUID(int=n), 3, 5) for n in range(20)}
    assert len(others) == 20


def test_what_an_attempt_says_of_its_infrastructure_counts_before_what_its_worker_saw() -> None:
    own = f"{INFRASTRUCTURE}results cannot be written under /r: Permission denied"
    seen = "Flow run process exited with non-zero status code 1. No module named 'x'"
    history = [Running(), Crashed(message=own), Crashed(message=seen)]
    verdict = judge(Crash(message_of(history), Exit(code=1)))
    assert verdict == Verdict(True, "results cannot be written under /r: Permission denied")
    # Of an attempt before it was put back in its queue, nothing is said.
    again = [*history, Scheduled(), Running(), Crashed(message=seen)]
    assert message_of(again) == seen
    assert message_of([Running()]) == ""
