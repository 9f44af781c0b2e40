"""The settings of what a host offers to jobs."""

from pydantic import ByteSize, Field
from pydantic_settings import BaseSettings

_OFFERS = "What a host offers to jobs, in `prefecture up` or `work` there:"


class HostSettings(BaseSettings):
    """What the jobs on this host share."""

    host_memory: ByteSize | None = Field(
        default=None, description=f"{_OFFERS} memory: `16GiB`. Default: the machine's."
    )
    host_cpus: int | None = Field(
        default=None, ge=1, description=f"{_OFFERS} CPUs. Default: the machine's."
    )
    host_gpus: str = Field(
        default="", description=f"{_OFFERS} GPUs, by id, separated by commas: `0,1`. Default: none."
    )
    host_labels: str = Field(
        default="",
        description=f"{_OFFERS} labels, separated by commas: `ssd,rack-4`. Default: none.",
    )
