"""Sizes of tasks of Amazon ECS on Fargate, and names by which those of jobs are found."""

import math
from typing import NamedTuple

ECS_FAMILY = "prefecture"
"""Family of the task definitions of jobs, and the name of the container in them."""

_MIB = 2**20
# CPU units, of which 1024 are one CPU, and the memory in MiB that may go with them.
_SIZES = {
    256: (512, 1024, 2048),
    512: range(1024, 4097, 1024),
    1024: range(2048, 8193, 1024),
    2048: range(4096, 16385, 1024),
    4096: range(8192, 30721, 1024),
    8192: range(16384, 61441, 4096),
    16384: range(32768, 122881, 8192),
}
MOST_CPUS = 16
"""CPUs of the largest task."""
MOST_MEMORY = 122880 * _MIB
"""Memory of the largest task, in bytes."""


class FargateSize(NamedTuple):
    """A size that Fargate has."""

    cpu: int
    """In units, of which 1024 are one CPU."""
    memory: int
    """In MiB."""


def fargate_size(cpus: float, memory: int) -> FargateSize:
    """The smallest size with so many CPUs and so many bytes. Raises ValueError where none has."""
    units, mebibytes = math.ceil(cpus * 1024), math.ceil(memory / _MIB)
    for cpu, memories in _SIZES.items():
        if cpu < units:
            continue
        for each in memories:
            if each >= mebibytes:
                return FargateSize(cpu, each)
    raise ValueError(
        f"no task of Fargate has {cpus:g} CPUs and {memory / 2**30:,.3g} GiB of memory: ask for at "
        f"most {MOST_CPUS} and {MOST_MEMORY // 2**30}"
    )
