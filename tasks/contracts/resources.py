"""What a job asks of its host, and what a host offers."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

from pydantic import BaseModel, ConfigDict

from tasks.contracts.containers import size_in_bytes

GPUS_VARIABLE = "gpus"
"""The job variable that says how many GPUs a job has."""
HOST_LABELS_VARIABLE = "host_labels"
"""The job variable with the labels that the host of a job must have."""
_GIB = 2**30
_BILLION = 1_000_000_000


class Resources(BaseModel):
    """Memory in bytes, CPUs, GPUs and labels: asked by a job, or offered by a host."""

    model_config = ConfigDict(frozen=True)

    memory: int = 0
    cpus: float = 0.0
    gpus: int = 0
    labels: frozenset[str] = frozenset()

    def lacks(self, asked: "Resources") -> str:
        """What a host that offers this has not of what is asked, in words; empty where it fits."""
        lacking = [f"the label {label}" for label in sorted(asked.labels - self.labels)]
        if asked.memory > self.memory:
            lacking.append(f"{asked.memory / _GIB:,.3g} GiB of memory")
        if asked.cpus > self.cpus:
            lacking.append(f"{asked.cpus:g} CPUs")
        if asked.gpus > self.gpus:
            lacking.append("1 GPU" if asked.gpus == 1 else f"{asked.gpus} GPUs")
        return " and ".join(lacking)

    def without(self, taken: "Resources") -> "Resources":
        """What is left. CPUs are shared, so they are not taken."""
        left = {"memory": self.memory - taken.memory, "gpus": self.gpus - taken.gpus}
        return self.model_copy(update=left)


def resources_asked(variables: Iterable[Mapping[str, Any]], payload: Any) -> Resources:
    """What a job asks for. A job that says nothing fits on every host, and takes nothing away.

    `variables`: the job variables of its deployment, then its own. `payload`: its parameter, where
    a task starts containers with resources of their own.
    """
    known: dict[str, Any] = {}
    for some in variables:
        known |= some
    memory, cpus, gpus = _size(known.get("mem_limit")), 0.0, _number(known.get(GPUS_VARIABLE))
    cpus = _number(known.get("nano_cpus")) / _BILLION
    named = known.get(HOST_LABELS_VARIABLE)
    labels = cast("list[Any]", named) if isinstance(named, list) else []
    if isinstance(payload, Mapping):
        own = cast("Mapping[str, Any]", payload)
        if {"image", "build"} & own.keys():
            count = max(1.0, _number(own.get("containers")))
            memory += int(_size(own.get("memory")) * count)
            cpus = max(cpus, _number(own.get("cpus")))
            gpus = max(gpus, _number(own.get(GPUS_VARIABLE)))
    return Resources(
        memory=memory, cpus=cpus, gpus=int(gpus), labels=frozenset(str(one) for one in labels)
    )


def _size(value: Any) -> int:
    try:
        return size_in_bytes(value)
    except (TypeError, ValueError, KeyError, IndexError):
        return 0  # missing, or invalid: the job itself says so


def _number(value: Any) -> float:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(max(0, value)) if usable else 0.0
