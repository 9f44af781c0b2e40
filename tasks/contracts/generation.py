"""The payload of generate-data."""

from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import AwareDatetime, Field

from tasks.contracts.containers import Container
from tasks.contracts.names import must_match
from tasks.contracts.payloads import nothing
from tasks.contracts.schema import matches

TOPICS = "topics"
"""The folder, below the one that jobs write, of all topics that are folders."""
_TOPIC = r"^(kafka://[A-Za-z0-9._:,\[\]-]+/)?[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}(?![\s\S])"

_TOPIC_EXPECTED = (
    "a name such as clicks, of letters, digits, _, - and ., or an address such as "
    "kafka://host:port/clicks"
)
_TIME = (
    r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])[Tt ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?"
    r"([Zz]|[+-]([01]\d|2[0-3]):?[0-5]\d)(?![\s\S])"
)
_TIME_EXPECTED = "a time with its zone, such as 2030-01-31T08:00:00+00:00 or 2030-01-31T08:00:00Z"


class GenerateData(Container):
    """Containers that generate data for some time, and the topic that receives it."""

    form_order: ClassVar = (
        *("topic", "duration", "image", "build", "command", "environment", "secrets"),
        *("containers", "start", "description", "user", "network", "cpus", "memory"),
    )

    topic: Annotated[
        str,
        Field(
            title="Topic",
            description="Receives each line of JSON that a container prints: "
            "kafka://host:port/topic, or a name, for a folder under the results root.",
            max_length=400,
            json_schema_extra=matches(_TOPIC, _TOPIC_EXPECTED),
            examples=["clicks", "kafka://127.0.0.1:9092/clicks"],
        ),
        must_match(
            _TOPIC,
            "is no topic: write kafka://host:port/topic, or a name such as clicks for a folder "
            "under the results root",
        ),
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
            description="How many run at once. CPUs and memory are for each.",
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
            json_schema_extra=matches(_TIME, _TIME_EXPECTED),
            examples=["2030-01-31T08:00:00+00:00"],
        ),
    ]
    description: Annotated[
        str,
        Field(
            title="Description",
            description="What the data is for; noted in the result.",
            max_length=1000,
            examples=["Clicks for the load test"],
        ),
    ] = ""
    user: Annotated[
        str,
        Field(
            title="User",
            description="Who asked for the data; noted in the result.",
            max_length=200,
            examples=["anna"],
        ),
    ] = ""

    def starts(self) -> datetime | None:
        """Return the requested start; None for at once."""
        return self.start if "start" in self.model_fields_set else None
