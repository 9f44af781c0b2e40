"""What `prefecture drain` prints."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it imports Prefect
    from deployments.hosts import Member


def drain_line(host: str, running: int, deadline: str | None) -> str:
    """What happens now, in one line."""
    if not running:
        return f"{host} takes no new job; none runs there"
    jobs = "1 job runs" if running == 1 else f"{running:,} jobs run"
    if deadline is None:
        return f"{host} takes no new job; {jobs} there, to the end"
    return f"{host} takes no new job; {jobs} there; what runs in {deadline} is moved"


def drain_warnings(members: "Sequence[Member]", deadline: str | None) -> Iterable[str]:
    """What an operator must know of workers that do not do all of it."""
    for member in members:
        if not member.online:
            yield f"{member.worker} is away: it takes no job when it comes back"
        elif member.stock:
            yield (
                f"{member.worker} is Prefect's own worker, which cannot be told and takes jobs on: "
                "stop it"
            )
        if member.online and deadline is not None and not member.supervised:
            yield (
                f"no supervisor reports beside {member.worker}, and no other moves its jobs: start "
                f"`prefecture supervise --pool {member.pool} --worker {member.worker}` there"
            )
