"""A host whose clock is five minutes off: it takes jobs when they are due, and ends them well."""

from pathlib import Path

import pytest

from tests.chaos.harness.drill import Drill
from tests.chaos.harness.elsewhere import OTHER, other_host
from tests.chaos.harness.verdict import Check
from tests.support.needs import need_faketime
from tests.support.platform import Platform, wait_until
from tests.support.processes import worker


@pytest.mark.chaos
@pytest.mark.parametrize("off", ["+300", "-300"])
def test_off(process_trials: Platform, check: Check, tmp_path: Path, off: str) -> None:
    platform, drill = process_trials, Drill(process_trials, f"clock {off} s")
    wrong = {
        "LD_PRELOAD": need_faketime(),
        "FAKETIME": off,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    here = worker(platform).environ()["PREFECTURE_WORKER"]
    with other_host(platform, tmp_path, **wrong):
        wait_until(
            lambda: OTHER in platform.command("prefecture", "status").stdout, what="it reports"
        )
        assert platform.command("prefecture", "drain", here).returncode == 0
        try:
            # Not at a gate: time.sleep fails under libfaketime. The third attempt is due later.
            drill.submit(1, fault="kill", attempts=2)
            drill.submit(3, hold=1)
            wait_until(lambda: not drill.unfinished(), what="all have ended")
            workers = {run["labels"]["prefect.worker.name"] for run in drill.runs()}
            assert workers == {OTHER}
        finally:
            platform.command("prefecture", "drain", here, "--undo")
        row = check(drill)
        assert row.requeued == 2
