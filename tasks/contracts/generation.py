"""What generate-data is given."""

import re
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, Field

from tasks.contracts.containers import Container, nothing

_TOPIC = r"^(kafka://[A-Za-z0-9._:,\[\]-]+/)?[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}(?![\s\S])"


def _check_topic(value: str) -> str:
    if not re.match(_TOPIC, value):
        raise ValueError(
            f"{value!r} is no topic: write kafka://host:port/topic, or a name such as clicks for a "
            "folder under the results root"
        )
    return value


class GenerateData(Container):
    """Containers that generate data for a while, and the topic that it goes to."""

    topic: Annotated[
        str,
        Field(
            title="Topic",
            description="Where each line of JSON goes that a container prints: "
            "kafka://host:port/topic, or a name, for a folder under the results root.",
            max_length=400,
            json_schema_extra={"pattern": _TOPIC},
            examples=["clicks", "kafka://127.0.0.1:9092/clicks"],
        ),
        AfterValidator(_check_topic),
    ]
    duration: Annotated[
        int,
        Field(
            title="Duration",
            description="Seconds from the start to the end. Each container gets SIGTERM then, and "
            "SIGKILL 10 s later.",
            ge=1,
            le=604_000,
            examples=[3600],
        ),
    ]
    containers: Annotated[
        int,
        Field(
            title="Containers",
            description="How many run at once. CPUs and memory are of each.",
            ge=1,
            le=16,
            examples=[2],
        ),
    ] = 1
    start: Annotated[
        AwareDatetime,
        Field(
            default_factory=nothing,
            title="Start",
            description="When they start; at once, if left out. The job holds its slot until then.",
            examples=["2030-01-31T08:00:00+00:00"],
        ),
    ]
    description: Annotated[
        str,
        Field(
            title="Description",
            description="What it is for; said in the result.",
            max_length=1000,
            examples=["Clicks for the load test"],
        ),
    ] = ""
    user: Annotated[
        str,
        Field(
            title="User",
            description="Whose it is; said in the result.",
            max_length=200,
            examples=["anna"],
        ),
    ] = ""

    def starts(self) -> datetime | None:
        """The time that was asked for; None for at once."""
        return self.start if "start" in self.model_fields_set else None
