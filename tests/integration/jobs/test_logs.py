"""`prefecture logs`: what a job has logged, in all of its attempts."""

import subprocess
from uuid import uuid4

from tests.support.platform import Platform, pause, wait_until


def logs(platform: Platform, *words: str) -> subprocess.CompletedProcess[str]:
    return platform.command("prefecture", "logs", *words)


def test_the_log_of_a_job(process_platform: Platform) -> None:
    job = process_platform.submit_job("find-primes/high", {"upper_bound": 10}, "logged")
    process_platform.completed(job, "logged")

    def shown() -> str:
        done = logs(process_platform, str(job))
        assert done.returncode == 0, done.stderr
        return done.stdout

    # The last of it comes into sight after the job has ended.
    wait_until(lambda: "published 1 file, " in shown(), what="its log is whole")
    times = [line[:8] for line in shown().splitlines()]
    assert times == sorted(times)


def test_a_log_is_followed_to_the_end(process_platform: Platform) -> None:
    with pause(process_platform):
        job = process_platform.submit_job("find-primes/high", {"upper_bound": 10}, "followed")
        waiting = logs(process_platform, str(job))
        assert (waiting.returncode, waiting.stdout) == (0, "")
    followed = logs(process_platform, str(job), "--follow")
    assert followed.returncode == 0, followed.stderr
    assert followed.stdout.count("published 1 file, ") == 1
    assert process_platform.run(job)["state_type"] == "COMPLETED"


def test_a_job_that_is_not_known(process_platform: Platform) -> None:
    unknown = logs(process_platform, str(uuid4()))
    assert unknown.returncode == 1
    assert "is known here" in unknown.stderr
    assert logs(process_platform, "job").stderr.startswith("prefecture: 'job' is not a job id")
