"""i: many jobs through the slots: how many a minute, whether the last are as fast as the first, and
whether the server's memory stays what it was."""

from benchmarks.suite.report import OURS, Row
from benchmarks.suite.sides import SLOTS, PrefectSide
from benchmarks.suite.usage import server_memory
from tests.support.platform import Platform

_SAMPLE = 100  # jobs at either end


def drained(up: Platform, own: PrefectSide, jobs: int) -> list[Row]:
    """Jobs that do nothing, all submitted before the first is taken."""
    own.drain(SLOTS)  # a server that has just started has not loaded all of its code yet
    before = server_memory(up, "VmRSS")
    began, times = own.drained(jobs)
    after = server_memory(up, "VmRSS")
    ends = sorted(one.ended for one in times)
    sample = min(_SAMPLE, jobs // 2)
    first = (ends[sample] - ends[0]) / sample
    last = (ends[-1] - ends[-1 - sample]) / sample
    pace = {f"first {sample}": [first], f"last {sample}": [last]}
    key, many = f"i {up.pool[:4]}", f"{jobs:,} jobs, {SLOTS} slots, {up.pool}"
    return [
        Row(key, f"ended a minute: {many}", "/min", {OURS: [60 * jobs / (ends[-1] - began)]},
            better="more"),
        Row(key, f"seconds a job: {many}", "s", pace),
        Row(key, f"memory of the server: {many}", "MiB", {"before": [before], "after": [after]}),
    ]  # fmt: skip
