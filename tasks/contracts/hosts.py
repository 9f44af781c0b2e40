"""What hosts report about themselves, and what operators ask of them, in Prefect variables."""

import re
import zlib
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from tasks.contracts.resources import Resources

AGENT_VARIABLES = "prefecture_agent_"
"""Prefix of the Prefect variables in which agents report."""
WORKER_VARIABLES = "prefecture_worker_"
"""Prefix of the Prefect variables in which workers report how many jobs they run."""
DRAIN_VARIABLES = "prefecture_drain_"
"""Prefix of the Prefect variables that say which hosts are drained."""

USAGE_VARIABLES = "prefecture_usage_"
"""Prefix of the Prefect variables in which workers report what each user has used."""


class AgentReport(BaseModel):
    """The report of the agent beside a worker on its host, written every few seconds."""

    model_config = ConfigDict(frozen=True)

    host: str
    pool: str
    worker: str
    failed: dict[str, str] = Field(description="the checks that fail now, each with its finding")
    running: int = Field(ge=0, description="jobs that run on this host")
    holds_intake: bool = Field(description="whether it pauses the pool until the host is well")
    drained: bool = Field(default=False, description="whether its worker takes no new job")
    at: datetime

    @property
    def variable(self) -> str:
        """The name of the Prefect variable that holds this report."""
        return _variable(AGENT_VARIABLES, f"{self.pool}_{self.worker}")


class WorkerReport(BaseModel):
    """The report of a worker, written when it starts."""

    model_config = ConfigDict(frozen=True)

    pool: str
    worker: str
    host: str = ""
    slots: int = Field(ge=0, description="jobs that it runs at once")
    offer: Resources | None = Field(default=None, description="None before it reported any")
    is_fair: bool = Field(default=False, description="whether users share the queue normal")

    @property
    def variable(self) -> str:
        """The name of the Prefect variable that holds this report."""
        return _variable(WORKER_VARIABLES, f"{self.pool}_{self.worker}")


class UsageReport(BaseModel):
    """The report of a worker on the jobs in `normal` that it has run, where users share it."""

    model_config = ConfigDict(frozen=True)

    pool: str
    worker: str
    seconds: dict[str, float] = Field(description="of each user's jobs; what is old counts less")
    at: datetime

    @property
    def variable(self) -> str:
        """The name of the Prefect variable that holds this report."""
        return _variable(USAGE_VARIABLES, f"{self.pool}_{self.worker}")


class Drain(BaseModel):
    """An operator's word that a host is to take no new job, for as long as the variable exists."""

    model_config = ConfigDict(frozen=True)

    host: str = Field(description="the host's name, or that of one worker")
    since: datetime
    until: datetime | None = Field(
        default=None,
        description="when jobs that still run are moved to other hosts, by the server's clock",
    )

    def covers(self, host: str, worker: str) -> bool:
        """Whether it is about this worker on this host."""
        return self.host in (host, worker)

    @property
    def variable(self) -> str:
        """The name of the Prefect variable that holds it."""
        # Names that differ in a dot alone are two hosts.
        return _variable(DRAIN_VARIABLES, f"{self.host}_{zlib.crc32(self.host.encode()):08x}")


def _variable(prefix: str, name: str) -> str:
    return prefix + re.sub(r"[^a-z0-9_-]", "_", name.lower())
