"""Which attempts are lost: the server believes that they live, and they do not."""

from dataclasses import dataclass

from prefect.client.schemas.objects import StateType

from tasks.settings import Settings

_RELABELLED = 10.0  # seconds in which a worker that takes a run has said so
_CANCELLED = "cancelled"  # an instance that is only being made finds out, and ends: see the engine
GRACE = 2.0  # seconds in which who is still there may report an end itself


@dataclass(frozen=True)
class Observation:
    """An attempt that a worker holds, as this host sees it at one moment."""

    state: StateType
    missed: float
    """Seconds, by this host's clock alone, since it was first seen without a living instance."""
    instances: int = 0
    """Instances there are or were, those that were never started left out."""
    alive: int = 0
    """Those of them that live."""
    orphaned: bool = False
    """Whether its worker was first seen without it: started since, or gone."""


def loss_here(observation: Observation, settings: Settings) -> str | None:
    """Why an attempt that a worker of this host took is lost, in one line; None where it is not."""
    if observation.alive or observation.missed < GRACE:
        return None
    if observation.state == StateType.CANCELLING:
        return _CANCELLED
    if observation.state == StateType.RUNNING:
        return "lost: its container or process is gone"
    if observation.instances:
        return "lost: its container or process ended before it ran"
    if observation.orphaned:
        return "lost: its worker ended before it started it"
    if observation.missed < settings.pending_limit:
        return None
    return f"lost: taken by a worker, and not started for {settings.pending_limit:.0f} s"


def loss_of_unknown(observation: Observation, all_speak: bool, settings: Settings) -> str | None:
    """The same for a Pending attempt whose worker has not said who it is, as it does at once.

    `all_speak`: no worker of the pool has fallen silent. Then it lives, and is only slow.
    """
    if observation.missed < GRACE:
        return None
    if observation.state == StateType.CANCELLING:
        return _CANCELLED
    if observation.orphaned:
        return "lost: its worker ended before it started it"
    limit = settings.pending_limit if all_speak else settings.agent_timeout
    if observation.missed < limit:
        return None
    return f"lost: no worker has claimed it for {limit:.0f} s"


def loss_elsewhere(observation: Observation, silent: bool, settings: Settings) -> str | None:
    """The same for an attempt on another host. `silent`: neither agent nor worker speak there."""
    # The label still names the worker before the last for a moment after a run was put back.
    settled = observation.missed >= min(settings.agent_timeout, _RELABELLED)
    return "lost: its host is gone" if silent and settled else None
