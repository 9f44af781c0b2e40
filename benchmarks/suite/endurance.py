"""i: many jobs through the slots: jobs a minute, seconds per job at the beginning and at the end,
and the memory of the server before and after."""

from benchmarks.suite.report import OURS, Row
from benchmarks.suite.sides import SLOTS, PrefectSide
from benchmarks.suite.usage import server_memory
from tests.support.platform import Platform

_SAMPLE = 100  # jobs at the beginning, and at the end


def drained(up: Platform, own: PrefectSide, jobs: int) -> list[Row]:
    """Measure jobs without work, all submitted before the first one starts."""
    own.drain(SLOTS)  # a server that has just started has not loaded all of its code yet
    before = server_memory(up, "VmRSS")
    began, times = own.drained(jobs)
    after = server_memory(up, "VmRSS")
    ended = sorted(one.ended for one in times)
    sample = min(_SAMPLE, jobs // 2)
    first = (ended[sample] - ended[0]) / sample
    last = (ended[-1] - ended[-1 - sample]) / sample
    pace = {f"first {sample}": [first], f"last {sample}": [last]}
    key, many = f"i {up.pool[:4]}", f"{jobs:,} jobs, {SLOTS} slots, {up.pool}"
    return [
        Row(key, f"ended a minute: {many}", "/min", {OURS: [60 * jobs / (ended[-1] - began)]},
            better="more"),
        Row(key, f"seconds a job: {many}", "s", pace),
        Row(key, f"memory of the server: {many}", "MiB", {"before": [before], "after": [after]}),
    ]  # fmt: skip
