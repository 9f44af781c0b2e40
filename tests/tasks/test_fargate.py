"""Sizes of tasks in ECS: the least that Fargate has of what is asked for."""

import pytest

from tasks.contracts import MOST_CPUS, MOST_MEMORY, fargate_size

MIB, GIB = 2**20, 2**30


@pytest.mark.parametrize(
    ("cpus", "memory", "size"),
    [
        (0.25, 512 * MIB, (256, 512)),
        (1, 2 * GIB, (1024, 2048)),
        (2, 2 * GIB, (2048, 4096)),  # two CPUs have 4 GiB at least
        (0.5, 5 * GIB, (1024, 5120)),  # 5 GiB have one CPU at least
        (1, 2 * GIB + 1, (1024, 3072)),
        (1.5, GIB, (2048, 4096)),
        (8, 17 * GIB, (8192, 20480)),
        (MOST_CPUS, MOST_MEMORY, (16384, 122880)),
    ],
)
def test_the_least_size(cpus: float, memory: int, size: tuple[int, int]) -> None:
    assert fargate_size(cpus, memory) == size


@pytest.mark.parametrize(("cpus", "memory"), [(17, GIB), (1, MOST_MEMORY + 1)])
def test_more_than_there_is(cpus: float, memory: int) -> None:
    with pytest.raises(ValueError, match="ask for at most 16 and 120"):
        fargate_size(cpus, memory)
