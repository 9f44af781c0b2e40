"""Hosts that differ: a job goes where what it asks for is, and keeps nobody else waiting."""

import json
from pathlib import Path

import pytest

from tests.chaos.harness.drill import Drill
from tests.chaos.harness.elsewhere import OTHER, copy_of
from tests.support.platform import PATIENCE, Platform
from tests.support.processes import processes_of, worker


@pytest.mark.thorough
def test_a_label_and_a_gpu(process_trials: Platform, tmp_path: Path) -> None:
    platform, drill = process_trials, Drill(process_trials, "unlike hosts")
    (picky,) = drill.submit(1, "high", {"host_labels": ["ssd"], "gpus": 1}, gate="middle")
    (other,) = drill.submit(1)
    assert platform.ended(other)["state_type"] == "COMPLETED"
    assert platform.run(picky)["state_type"] == "SCHEDULED"
    done = platform.command("prefecture", "explain", str(picky), "--json")
    (reason,) = json.loads(done.stdout)["reasons"]
    here = worker(platform).environ()["PREFECTURE_WORKER"]
    assert reason == f"no host offers what it asks for: {here} has not the label ssd and 1 GPU"
    host = copy_of(worker(platform), tmp_path / "worker.log", "--label", "ssd", "--gpus", "7")
    try:
        drill.wait_at("middle", {picky})
        (process,) = processes_of(platform, picky)
        assert process.environ()["CUDA_VISIBLE_DEVICES"] == "7"
        drill.release(picky)
        run = platform.ended(picky)
        assert (run["state_type"], run["labels"]["prefect.worker.name"]) == ("COMPLETED", OTHER)
    finally:
        host.terminate()
        host.wait(PATIENCE)
    done = platform.command("prefecture", "submit", "find-primes", "{}", "x", "--gpus", "2")
    assert done.stderr == (
        "prefecture: gpus: 2 asked for, and no host offers more than 1: set PREFECTURE_HOST_GPUS "
        "where there are GPUs\n"
    )
