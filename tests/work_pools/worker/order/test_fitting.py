"""What a job asks for, and on which host it may start."""

from typing import Any

import pytest

from tasks.contracts import Resources, resources_asked
from work_pools.worker.order.fitting import fitting

GIB = 2**30
HOST = Resources(memory=8 * GIB, cpus=4, gpus=2, labels=frozenset({"ssd"}))


def asks(gib: float = 0, **more: Any) -> Resources:
    return Resources(memory=int(gib * GIB), **more)


@pytest.mark.parametrize(
    ("deployment", "own", "payload", "asked"),
    [
        ({}, {}, {"upper_bound": 10}, asks()),
        ({"max_duration": 60}, {"network": "server"}, None, asks()),
        ({"mem_limit": "4g"}, {}, None, asks(4)),
        ({"mem_limit": "4g"}, {"mem_limit": "512m", "gpus": 1}, None, asks(0.5, gpus=1)),
        ({}, {"nano_cpus": 500_000_000}, None, asks(cpus=0.5)),
        ({}, {"host_labels": ["ssd"]}, None, asks(labels=frozenset({"ssd"}))),
        ({}, {}, {"image": "x", "memory": "2g", "cpus": 3, "gpus": 1}, asks(2, cpus=3, gpus=1)),
        ({}, {}, {"image": "x", "memory": "1g", "gpus": 1, "containers": 3}, asks(3, gpus=1)),
        # Not a container's: a task of somebody else may name its own field so.
        ({}, {}, {"memory": "4g"}, asks()),
        # Wrong: the job itself says so.
        (
            {"mem_limit": "much"},
            {"gpus": True, "nano_cpus": 0},
            {"image": 1, "cpus": []},
            asks(),
        ),
    ],
)
def test_what_a_job_asks_for(
    deployment: dict[str, Any], own: dict[str, Any], payload: Any, asked: Resources
) -> None:
    assert resources_asked([deployment, own], payload) == asked


@pytest.mark.parametrize(
    ("waiting", "taken", "may"),
    [
        ([asks(), asks(4)], [], [True, True]),
        # Never here: it keeps nobody waiting.
        ([asks(16), asks(cpus=8), asks(labels=frozenset({"old"})), asks(4)], [], [0, 0, 0, 1]),
        # It fits later: who comes after it and asks for memory lets it go first.
        ([asks(6), asks(2), asks()], [asks(4)], [0, 0, 1]),
        ([asks(4), asks(4), asks(1)], [], [1, 1, 0]),
        ([asks(gpus=1), asks(gpus=2), asks(gpus=1)], [], [1, 0, 0]),
        ([asks(gpus=1), asks(gpus=1), asks(1)], [asks(gpus=1)], [1, 0, 1]),
        # More is promised than there is: a worker was started anew with less.
        ([asks(), asks(1)], [asks(16)], [1, 0]),
    ],
)
def test_who_may_start(waiting: list[Resources], taken: list[Resources], may: list[bool]) -> None:
    assert fitting(waiting, HOST, taken) == [bool(each) for each in may]


def test_what_a_host_lacks() -> None:
    asked = asks(16, cpus=8, gpus=3, labels=frozenset({"ssd", "new"}))
    assert HOST.lacks(asked) == "the label new and 16 GiB of memory and 8 CPUs and 3 GPUs"
    assert HOST.lacks(asks(8, cpus=4, gpus=2, labels=frozenset({"ssd"}))) == ""
