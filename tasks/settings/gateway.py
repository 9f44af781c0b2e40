"""The settings of the gateway: what each of its users may have, and where uploads are kept."""

from typing import Annotated

from pydantic import AfterValidator, ByteSize, Field
from pydantic_settings import BaseSettings

from tasks.contracts import S3Address
from tasks.contracts.roots import PlaceInS3


def _checked(text: str) -> str:
    _places(text)
    return text


class GatewaySettings(BaseSettings):
    """What users of the gateway may have."""

    gateway_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="The port of the gateway that `up` starts, at the addresses of the server; 0: "
        "it starts none. Default: the server's port and 80, so 4280.",
    )
    gateway_rate: int = Field(
        default=600,
        ge=1,
        description="Requests that each user of the gateway may send in a minute.",
    )
    gateway_jobs: int = Field(
        default=100_000,
        ge=1,
        description="Jobs of each user of the gateway that may wait and run at a time.",
    )
    gateway_schedules: int = Field(
        default=20,
        ge=0,
        le=1_000,
        description="Schedules that each user of the gateway may have.",
    )
    gateway_streams: int = Field(
        default=100,
        ge=1,
        description="Streams of events that each user of the gateway may have open.",
    )
    gateway_inputs: ByteSize = Field(
        default=ByteSize(100 * 2**30),
        description="Bytes of the files that each user of the gateway may upload, all together.",
    )
    gateway_results: ByteSize | None = Field(
        default=None,
        description="Bytes that the results of each user of the gateway may have, all together, "
        "when a job is submitted. Default: any number.",
    )
    uploads_root: PlaceInS3 | None = Field(
        default=None,
        description="The `s3://bucket/prefix` that users of the gateway upload files to, for jobs "
        "that share no folder with it. Default: the inputs root.",
    )
    gateway_sources: Annotated[str, AfterValidator(_checked)] = Field(
        default="",
        description="Places in S3 that are sources of jobs of the gateway's users, besides what "
        "they upload: `s3://photos/shared,s3://reference`. Default: all that the credentials of "
        "jobs can read.",
    )
    inputs_days: int | None = Field(
        default=None,
        ge=1,
        le=36_500,
        description="Days after which the notifier removes a file that a user of the gateway has "
        "uploaded, unless a waiting or running job names it. Default: never.",
    )

    @property
    def places_of_sources(self) -> list[S3Address]:
        """The places in S3 that jobs of the gateway's users may read; none: all."""
        return _places(self.gateway_sources)


def _places(text: str) -> list[S3Address]:
    return [S3Address.parse(one) for one in text.replace(",", " ").split()]
