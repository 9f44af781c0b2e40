"""trial: a compute task for tests alone, which waits, crashes or babbles as its payload says.

Copied into a platform's inputs root and deployed from there. Staging and publishing are the real
ones. In `.prefect/gates` under the results root it leaves, for the test to see:

    <job>.<attempt>.<gate>    "pid flow-run-id": this attempt waits here until it is killed, or
                              until a file `trial/<job>.release` appears in the inputs root
    <job>.log                 a line for each attempt that started, and for each that published
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PosixPath
from typing import Literal

from prefect.context import FlowRunContext
from pydantic import Field

from tasks.contracts import ATTEMPT_LABEL, Payload, Receipt, ResultsDirectory, job_id
from tasks.runtime.compute_task import compute_task, open_job
from tasks.settings import get_settings
from tasks.storage.results import local_files
from tasks.storage.results.local import LocalStage

_STEP = 0.05  # seconds between two looks at a gate
_MEGABYTE = 2**20


class Trial(Payload):
    """What an attempt does, beyond writing two files and publishing them."""

    attempts: int = Field(default=1, description="the first attempts, which alone are troubled")
    gate: Literal["", "start", "middle", "staging", "publishing", "published"] = ""
    fault: Literal["", "kill", "exit", "memory", "log", "bytes"] = ""
    code: int = 1
    hold: float = Field(default=0, description="seconds of work, in each attempt")
    megabytes: int = Field(default=0, description="size of the result, or of the log")


@compute_task("trial")
async def trial(payload: Trial, results_directory: ResultsDirectory) -> Receipt:
    """Write two files, with the trouble that the payload asks for."""
    gates = _Gates(payload)
    gates.note("started")
    await asyncio.to_thread(gates.wait_at, "start")
    async with open_job(results_directory) as job:
        (job.stage.files / "first.txt").write_text(f"{job.id}\n" * 100)
        await asyncio.to_thread(gates.wait_at, "middle")
        if job.attempt <= payload.attempts:
            await asyncio.to_thread(_misbehave, payload)
        await asyncio.sleep(payload.hold)
        (job.stage.files / "second").mkdir()
        with (job.stage.files / "second" / "second.bin").open("wb") as file:
            file.write(job.id.bytes * 1000)
            for _ in range(0 if payload.fault == "log" else payload.megabytes):
                file.write(bytes(_MEGABYTE))
        await asyncio.to_thread(gates.wait_at, "staging")
        stage = job.stage
        assert isinstance(stage, LocalStage)
        gated = replace(stage.stage, files=_renamed_late(stage.files, gates))
        receipt = await replace(job, stage=LocalStage(gated)).publish({"attempt": job.attempt})
        if local_files.read_manifest(gated.target).flow_run == job.flow_run:
            gates.note("published")
        await asyncio.to_thread(gates.wait_at, "published")
        return receipt


def _misbehave(payload: Trial) -> None:
    match payload.fault:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(payload.code)
        case "memory":
            held: list[bytes] = []
            while True:
                held.append(os.urandom(8 * _MEGABYTE))
        case "log":
            line = b"x" * 1023 + b"\n"
            for _ in range(payload.megabytes):
                sys.stdout.buffer.write(line * 1024)
            sys.stdout.buffer.flush()
        case "bytes":
            sys.stdout.buffer.write(b"not UTF-8: \xff\xfe\x80\n" * 100)
            sys.stdout.buffer.flush()
        case "":
            pass


class _Gates:
    """Where this attempt waits, and what it writes about itself."""

    def __init__(self, payload: Trial) -> None:
        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        run = context.flow_run
        attempt = int(run.labels.get(ATTEMPT_LABEL, 1))
        results = get_settings().results
        assert isinstance(results, Path)
        self._folder = results / local_files.RECORDS / "gates"
        self._job = job_id(run.labels, run.id)
        self._attempt = attempt
        self._run = run.id
        self._gate = payload.gate if attempt <= payload.attempts else ""

    def wait_at(self, gate: str) -> None:
        """Wait here, where the payload says so. Blocks."""
        if gate != self._gate:
            return
        marker = self._folder / f"{self._job}.{self._attempt}.{gate}"
        new = marker.with_suffix(".new")
        new.write_text(f"{os.getpid()} {self._run}")
        new.rename(marker)
        release = get_settings().inputs / "trial" / f"{self._job}.release"
        while not release.exists():
            time.sleep(_STEP)

    def note(self, what: str) -> None:
        """Add a line to the job's log, as far as the disk lets us."""
        now = datetime.now(UTC).isoformat()
        with (
            contextlib.suppress(OSError),
            (self._folder / f"{self._job}.log").open("a") as file,
        ):
            file.write(f"{what} {self._attempt} {self._run} {now}\n")


def _renamed_late(folder: Path, gates: _Gates) -> Path:
    """The folder, whose rename (which publishes it) first waits at the gate."""

    class Gated(PosixPath):
        def rename(self, target: "str | os.PathLike[str]") -> Path:
            wait: Callable[[str], None] = gates.wait_at
            wait("publishing")
            return super().rename(target)

    return Gated(folder)
