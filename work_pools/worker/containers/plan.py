"""The container that a job's configuration asks for, without the variables of its run."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import docker
from prefect_docker.worker import (  # pyright: ignore[reportMissingTypeStubs]
    DockerWorkerJobConfiguration,
)

from tasks.contracts import CONTAINER_LABEL, FRESH_CONTAINER
from work_pools.standby import split_variables

_COMMAND = "python -m work_pools.entrypoint.run"  # only this program can be a fork server
_LABELS_OF_THE_RUN = ("io.prefect.flow", "io.prefect.deployment", CONTAINER_LABEL)


@dataclass(frozen=True)
class Plan:
    """The container of a job, apart from the variables of its run."""

    container: Mapping[str, Any]
    """Arguments of Docker's client to create it."""
    variables: Mapping[str, str]
    """Environment variables of the run alone."""
    fresh: bool
    """Whether the container may serve no other job."""


def plan_of(
    configuration: DockerWorkerJobConfiguration, client: docker.DockerClient
) -> Plan | None:
    """The plan of a configuration; None where no standby container could serve it."""
    extra = {
        key: value
        for key, value in (configuration.container_create_kwargs or {}).items()
        if key not in type(configuration).model_fields
    }
    if (
        configuration.command != _COMMAND
        or len(configuration.networks) > 1
        or configuration.auto_remove
        or "extra_hosts" in extra
    ):
        return None
    environment, of_the_run = split_variables(configuration.env)
    labels: Mapping[str, str] = configuration.labels or {}
    return Plan(
        container={
            "image": configuration.image,
            "command": shlex.split(_COMMAND),
            "environment": environment,
            "labels": {k: v for k, v in labels.items() if not k.startswith(_LABELS_OF_THE_RUN)},
            "network": configuration.networks[0] if configuration.networks else None,
            "network_mode": configuration.get_network_mode(),
            "extra_hosts": configuration.get_extra_hosts(client),
            "volumes": configuration.volumes,
            "mem_limit": configuration.mem_limit,
            "memswap_limit": configuration.memswap_limit,
            "privileged": configuration.privileged,
            **extra,
        },
        variables=of_the_run,
        fresh=labels.get(CONTAINER_LABEL) == FRESH_CONTAINER,
    )
