"""The settings: environment variables with the prefix `PREFECTURE_`, read at first use."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BeforeValidator,
    ByteSize,
    Field,
    IPvAnyAddress,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import SettingsConfigDict

from tasks.contracts import S3Address
from tasks.contracts.roots import Place, Root
from tasks.settings.ecs import EcsSettings
from tasks.settings.gateway import GatewaySettings
from tasks.settings.host import HostSettings

_IMAGE_USER = "10001:10001"  # the image's own user


def _of_earlier_versions(network: Any) -> Any:
    return "open" if network == "host" else network


class Settings(GatewaySettings, HostSettings, EcsSettings):
    """The settings of Prefecture. Each description is a row of docs/reference/settings.md.

    The text after `Default: ` becomes its column of defaults.
    """

    model_config = SettingsConfigDict(env_prefix="PREFECTURE_", frozen=True, extra="ignore")

    home: Root = Field(
        default=Path("~/.prefecture"),
        validate_default=True,
        description="The embedded server's database and logs, and the notifier's own database.",
    )
    url: str | None = Field(
        default=None,
        pattern=r"^https?://[^/?#@\s]+(/[^?#\s]*)?$",
        description="The address of the gateway that the commands for users, and Python, work "
        "through, such as `https://prefecture.example.org:4280`. Default: that of `prefecture "
        "login`, where `PREFECT_API_URL` names no server.",
    )
    token: SecretStr | None = Field(
        default=None, description="The token for that gateway. Default: that of `prefecture login`."
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="The database of Prefect's server, as "
        "`postgresql://user:password@host/name`. Default: SQLite, in the home.",
    )
    redis_url: SecretStr | None = Field(
        default=None,
        description="The Redis through which several API servers and the background services "
        "share events and locks, as `redis://user:password@host:6379/0`, or `rediss://` with TLS. "
        "Default: none; then one server does all.",
    )
    server_hosts: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9._, -]*$",
        description="Host names, separated by commas, by which people reach the server of `up` "
        "besides 127.0.0.1 and localhost: through a proxy, for example. Requests to other names, "
        "or from web pages of other origins, are refused.",
    )
    bind: IPvAnyAddress | None = Field(
        default=None,
        description="An address of this host at which other machines reach the server of `up`, "
        "besides 127.0.0.1. It needs a certificate, or `--insecure`.",
    )
    tls_certificate: Root | None = Field(
        default=None,
        description="File with the certificate, and those that signed it, of the server at "
        "`PREFECTURE_BIND`, as PEM.",
    )
    tls_key: Root | None = Field(
        default=None, description="File with the key of that certificate, as PEM."
    )
    bulk_to_low: int | None = Field(
        default=None,
        ge=1,
        description="More jobs than this, submitted in one call that names no queue, go to the "
        "queue `low`: by the gateway, and by `submit-many`. Default: to `normal`, however many.",
    )
    inputs_root: Root | None = Field(
        default=None,
        description="The folder that payloads may read. Default: `inputs` in the home.",
    )
    results_root: Place | None = Field(
        default=None,
        description="The folder, or the `s3://bucket/prefix`, that results are published under. "
        "Default: `results` in the home.",
    )
    results_days: int | None = Field(
        default=None,
        ge=1,
        le=36_500,
        description="Days after which a result is removed. A job may ask for less. Default: never.",
    )
    results_size: ByteSize | None = Field(
        default=None,
        ge=2**20,
        description="Bytes that all results together may have: where they have more, the oldest "
        "are removed. Default: any number.",
    )
    scratch_root: Root | None = Field(
        default=None,
        validation_alias="PREFECTURE_SCRATCH",
        description="The folder on the worker's disk where jobs keep what they will publish in "
        "S3. Default: `scratch` in the home.",
    )
    s3_credentials: str | None = Field(
        default=None,
        pattern=r"^(aws-credentials|minio-credentials)/[a-z0-9-]+$",
        description="The Prefect block with which `s3://` sources are read and results in S3 are "
        "written, e.g. `aws-credentials/photos` or `minio-credentials/photos`.",
    )
    image: str | None = Field(
        default=None,
        description="The image of job containers. Default: built from this tree.",
    )
    base_image: str | None = Field(
        default=None,
        validation_alias=AliasChoices("PREFECTURE_BASE_IMAGE", "BASE_IMAGE"),
        description="The base image of the image of job containers. Default: `python:3.12-slim`, "
        "or the image that `.ci/base-image` made, where there is one.",
    )
    cpus: int = Field(
        default_factory=lambda: min(2, len(os.sched_getaffinity(0))),
        ge=1,
        le=os.cpu_count() or 1,  # the Docker engine refuses more than the host has
        description="CPUs one job may use; its number of working threads. Default: 2, or as many "
        "as the host has.",
    )
    memory: str = Field(
        default="2g",
        pattern=r"^[1-9][0-9]*[kmg]$",
        description="Memory of a job's container, swap included, where the job does not say.",
    )
    sum_memory: ByteSize = Field(
        default=ByteSize(2**30),
        ge=2**20,
        description="Memory that `average-files` keeps sums in, 16 bytes for each index; longer "
        "files are read in several rounds.",
    )
    copy_after: float = Field(
        default=0.75,
        ge=0,
        le=1,
        description="Share of the parts of an `average-files` job that are done before a slow "
        "part is done a second time.",
    )
    copy_factor: float = Field(
        default=1.2,
        ge=1,
        description="A part is slow when it takes this many times the mean of the finished parts.",
    )
    copy_most: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Parts done a second time, as a share of all; 0: none, else at least one may "
        "be.",
    )
    copy_seconds: float = Field(
        default=30,
        ge=0,
        description="A part is slow only when it takes this many seconds more than that mean, "
        "where there are four parts or fewer.",
    )
    container_output: ByteSize = Field(
        default=ByteSize(10 * 2**30),
        ge=2**20,
        description="The largest `/output` that a job of `run-container` may have.",
    )
    runtime: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        description="The engine's runtime for the containers of users, such as gVisor's `runsc`, "
        "which every host must have; builds of images have the engine's own. Default: the "
        "engine's own.",
    )
    container_user: str | None = Field(
        default=None,
        pattern=r"^[1-9][0-9]*:[1-9][0-9]*$",
        description="uid:gid that job containers run as, never root; it owns what they publish. "
        "Default: you; for root the owner of the folder that results are written to, or "
        "`10001:10001`.",
    )

    job_network: Annotated[
        Literal["internal", "open"] | None, BeforeValidator(_of_earlier_versions)
    ] = Field(
        default=None,
        description="The network of job containers. `internal`: a closed one, from which a job "
        "reaches the server's API and `PREFECTURE_JOB_HOSTS` alone. `open`: that of their host, "
        "where the server is on it. See [security](security.md#network-of-jobs). Default: "
        "`internal`, and `open` where a host cannot have it, which its worker says in its log.",
    )
    job_hosts: str = Field(
        default="",
        pattern=r"^[ ,]*([A-Za-z0-9._-]+:[0-9]{1,5}([ ,]+|$))*$",
        description="Hosts that jobs reach from the network `internal`, as `name:port`, separated "
        "by commas: `kafka.example.org:9092, 127.0.0.1:5432`. Default: the endpoint of "
        "`PREFECTURE_S3_CREDENTIALS`, which need not be listed.",
    )
    broker: bool = Field(
        default=True,
        description="Whether jobs of `run-container` and `generate-data` reach the Docker engine "
        "through a broker, which makes no other containers than theirs. If false, they have the "
        "engine's socket, and with it the host. See [security](security.md#the-broker).",
    )
    standby: int = Field(
        default=1,
        ge=0,
        le=64,
        description="Standby containers that a worker starts before there are jobs for them. In "
        "the pool `process`, 1: a process that forks once for each job. 0: none.",
    )
    reuse: int = Field(
        default=50,
        ge=1,
        le=10_000,
        description="Jobs that one standby container serves, one after the other, or for which a "
        "standby process forks. 1: each job has its own.",
    )
    low_waits: int | None = Field(
        default=None,
        ge=1,
        description="Seconds after which a job that waits in `low` comes before those in `normal`, "
        "though not before `high`; of four jobs that a worker starts, one at most. Default: never.",
    )
    fair_share: int | None = Field(
        default=None,
        ge=1,
        le=30 * 86_400,
        description="Seconds after which used slot time counts half. Users then share `normal`: "
        "next is the job of the user who has used least there. Default: first in, first out.",
    )
    max_attempts: int = Field(
        default=5,
        ge=1,
        le=100,
        description="Attempts at a job; a crash of the last is final.",
    )
    requeue_backoff: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        description="Seconds before the third attempt at a job, doubled before each later one, "
        "times a random factor of 0.5 to 1.5. The second attempt starts at once.",
    )
    pending_limit: float = Field(
        default=60.0,
        ge=1,
        description="Seconds after which a job that a worker claimed and has not started is lost.",
    )
    agent_timeout: float = Field(
        default=20.0,
        ge=5,
        description="Seconds without a report of a host's agent and of its worker (three "
        "heartbeats of the worker, where that is longer) after which its jobs are lost; counted "
        "anew after an outage of the server. Also the limit for a pending job that names no "
        "worker, where a worker does not report (`PREFECTURE_PENDING_LIMIT`, where all do).",
    )
    cancel_grace: float = Field(
        default=30.0,
        ge=0,
        description="Seconds between SIGTERM and SIGKILL, at most, for a cancelled job.",
    )
    max_duration: int = Field(
        default=86_400,
        ge=1,
        le=31_536_000,
        description="Seconds one attempt may run, where neither the job (up to a year) nor its "
        "deployment says.",
    )
    min_free_disk: ByteSize = Field(
        default=ByteSize(2**30),
        description="Space that must be free under the results root (the scratch folder, where "
        "results go to S3) and the engine's own folder. A user's container that writes where less "
        "is free is stopped, and its job is retried.",
    )
    min_free_memory: ByteSize = Field(
        default=ByteSize(256 * 2**20), description="Memory that must be available on the host."
    )

    confine: bool = Field(
        default=True,
        description="Whether a job may write to nothing but its own stage and temporary files, and "
        "signal no other process, where the kernel has Landlock; see "
        "[security](security.md#confinement).",
    )
    notifications: Path | None = Field(
        default=None,
        description="The file that declares the subscribers of notifications. Default: "
        "`deployments/notifications.yaml`.",
    )
    notifications_url: SecretStr | None = Field(
        default=None,
        description="The notification database, as `postgresql://user:password@host/name`; "
        "its tables are in the schema `prefecture`. Of several notifiers with one database one "
        "works, and another takes over when it is gone. Default: SQLite, in the home.",
    )
    allow_private_webhooks: bool = Field(
        default=False,
        description="Whether webhooks may go to private networks, this host included, and over "
        "`http://`.",
    )

    analytics: bool = Field(
        default=True,
        description="Whether the run history is kept, and reports are made of it.",
    )
    history_url: SecretStr | None = Field(
        default=None,
        description="The database of the run history, as "
        "`postgresql://user:password@host/name` or `mysql://user:password@host/name`. Default: "
        "SQLite, `history.db` in the home.",
    )
    history_days: int = Field(
        default=90,
        ge=1,
        le=36_500,
        description="Days that single attempts, jobs and backlogs are kept in the run history, and "
        "usage reports; counts are kept for ever.",
    )
    slots: int | None = Field(
        default=None,
        ge=1,
        description="How many jobs run at once, on all hosts together: the line in the usage "
        "report's chart of slots in use. Default: what `up` was started with.",
    )

    @field_validator("results_root")
    @classmethod
    def _are_apart(cls, results: Place | None, others: ValidationInfo) -> Place | None:
        # A user's upload would be a result, or a result the upload of another user.
        uploads = others.data.get("uploads_root")  # the fields of bases are validated first
        if (
            isinstance(results, S3Address)
            and isinstance(uploads, S3Address)
            and (results.contains(uploads) or uploads.contains(results))
        ):
            raise ValueError(
                f"{results} and PREFECTURE_UPLOADS_ROOT, {uploads}, are one in the other: let "
                "them be side by side"
            )
        return results

    @property
    def inputs(self) -> Path:
        """The inputs root in force."""
        return self.inputs_root or self.home / "inputs"

    @property
    def results(self) -> Path | S3Address:
        """The results root in force."""
        return self.results_root or self.home / "results"

    @property
    def scratch(self) -> Path:
        """Where jobs keep what they will publish in S3."""
        return self.scratch_root or self.home / "scratch"

    @property
    def hosts_of_jobs(self) -> list[str]:
        """The hosts that jobs reach from a closed network, as `name:port`."""
        return self.job_hosts.replace(",", " ").split()

    @property
    def written(self) -> Path:
        """The folder of this host that jobs write to: the results root, or the scratch folder."""
        return self.results if isinstance(self.results, Path) else self.scratch

    @property
    def user(self) -> str:
        """The uid:gid of job containers in force."""
        if self.container_user is not None:
            return self.container_user
        if os.getuid():
            return f"{os.getuid()}:{os.getgid()}"
        status = self.written.stat() if self.written.exists() else None
        owned = status is not None and status.st_uid and status.st_gid
        return f"{status.st_uid}:{status.st_gid}" if status and owned else _IMAGE_USER
