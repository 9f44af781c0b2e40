"""Detection of lost attempts: Pending or Running on the server, and dead on their host."""

from dataclasses import dataclass

from prefect.client.schemas.objects import StateType

from tasks.settings import Settings

_RELABELLED = 10.0  # seconds in which a worker that takes a run sets its label
_CANCELLED = "cancelled"  # an instance being created then exits by itself: see flow_engine
GRACE = 2.0  # seconds in which the worker or the attempt may report the final state itself


@dataclass(frozen=True)
class Observation:
    """An attempt that a worker has taken, as seen from this host at one moment."""

    state: StateType
    missed: float
    """Seconds since it was first seen without a living instance, by this host's clock."""
    instances: int = 0
    """Number of its instances that have exited."""
    alive: int = 0
    """Number of its living instances."""
    orphaned: bool = False
    """Whether this host's worker was started after the attempt entered its state."""


def loss_here(observation: Observation, settings: Settings) -> str | None:
    """Why an attempt of this host's worker is lost, in one line; None where it is not."""
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


def loss_of_unknown(observation: Observation, all_online: bool, settings: Settings) -> str | None:
    """Why a Pending attempt without a worker's label is lost; None where it is not.

    Workers set the label at once. `all_online`: no worker of the pool is silent, so the worker of
    this attempt is probably only slow.
    """
    if observation.missed < GRACE:
        return None
    if observation.state == StateType.CANCELLING:
        return _CANCELLED
    if observation.orphaned:
        return "lost: its worker ended before it started it"
    limit = settings.pending_limit if all_online else settings.agent_timeout
    if observation.missed < limit:
        return None
    return f"lost: no worker has claimed it for {limit:.0f} s"


def loss_elsewhere(observation: Observation, silent: bool, settings: Settings) -> str | None:
    """Why an attempt on another host is lost; None where it is not.

    `silent`: neither the agent nor the worker there reports.
    """
    # After a run was put back in its queue, its label names the previous worker for a moment.
    settled = observation.missed >= min(settings.agent_timeout, _RELABELLED)
    return "lost: its host is gone" if silent and settled else None
