"""Subscribers: who is notified of which jobs, and where.

A subscriber is plain JSON with everything that a delivery needs, except secrets. Those are in
Prefect's Secret blocks, named here as `secret/<name>`, and read at each delivery.
"""

import re
from collections.abc import Sequence
from email.errors import HeaderParseError
from email.headerregistry import Address
from typing import Annotated, Literal, Self, cast

import httpx
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from tasks.contracts.names import must_match
from tasks.runtime.events import JobCancelled, JobCompleted, JobEnded, JobFailed

SECRET = "secret/"
OUTCOMES = {"completed": JobCompleted, "failed": JobFailed, "cancelled": JobCancelled}
_MAX_NAME = 64
_MAX_PORT = 65_535
_MAX_ADDRESS = 254  # characters, by RFC 5321
NOTIFY = "notify:"
"""Prefix of the tag by which a job names a recipient: `notify:<address>`."""
_MOST_NAMED = 10  # recipients of one job
_NAMED_EVERY = 60.0  # seconds
_UNITS = {"s": 1, "m": 60, "h": 3600}
_LONGEST_EVERY = 86_400.0  # seconds


def _parse_duration(value: object) -> object:
    """Parse a number with a unit into seconds; leave other types to the field's own check."""
    if isinstance(value, str):
        matched = re.fullmatch(r"(\d{1,6})([smh])", value)
        if matched is None:
            raise ValueError(f"{value!r} is not one: use a number with s, m or h, such as 1m")
        return float(matched[1]) * _UNITS[matched[2]]
    return value


def parse_url(value: str) -> httpx.URL:
    """Parse the address of a webhook. Raises ValueError, which shows at most its host.

    The rest of an address can be a secret, and so can a text that is no address.
    """
    try:
        url = httpx.URL(value)
    except httpx.InvalidURL:
        url = httpx.URL()
    if (
        url.scheme not in ("http", "https")
        or not re.fullmatch(r"[A-Za-z0-9._:-]+", url.raw_host.decode("ascii"))
        or not 0 < (url.port or 1) <= _MAX_PORT
        or re.search(r"\s", value)
    ):
        raise ValueError("is no address: use https://…, or secret/<name> for one that is a secret")
    if url.userinfo or url.fragment:
        raise ValueError(f"leave user, password and #… out of the address of {url.host}")
    return url


def _check_url(value: str) -> str:
    if value.startswith(SECRET):
        return _check_secret(value)
    parse_url(value)
    return value


def _check_address(value: str) -> str:
    cure = f"{value!r} is no e-mail address: use one such as anna@example.org"
    if (
        not re.fullmatch(r"[\x21-\x3f\x41-\x7e]+@[A-Za-z0-9.-]+", value)
        or len(value) > _MAX_ADDRESS
    ):
        raise ValueError(cure)
    try:
        Address(addr_spec=value)
    except (HeaderParseError, ValueError, IndexError) as error:
        raise ValueError(cure) from error
    return value


def _check_secret(value: str) -> str:
    if not re.fullmatch(r"secret/[a-z0-9][a-z0-9-]*", value):
        raise ValueError(
            "names no Secret block: save the secret in a block, and write secret/<name> here"
        )
    return value


SecretName = Annotated[str, AfterValidator(_check_secret)]
"""`secret/<name>`, the name of a Secret block. Errors never show a wrong value."""

Domain = Annotated[
    str,
    must_match(
        r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*",
        "is not one: use the part behind @, such as example.org",
    ),
    AfterValidator(str.lower),
]
EmailAddress = Annotated[str, AfterValidator(_check_address)]
Duration = Annotated[
    float, BeforeValidator(_parse_duration), Field(ge=0, le=_LONGEST_EVERY, allow_inf_nan=False)
]
"""Seconds, given as a number or as 30s, 1m, 2h; a day at most."""
Tag = Annotated[str, Field(min_length=1)]
Outcome = Literal["completed", "failed", "cancelled"]


class _Declared(BaseModel):
    """Base of all sections of the file. Refuses an unknown field and names the known ones."""

    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, value: object) -> object:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for field in _fields(value):
            if field not in known:
                raise ValueError(f"there is no field {str(field)!r}: use {', '.join(known)}")
        return value


def _fields(value: object) -> list[object]:
    return [*cast("dict[object, object]", value)] if isinstance(value, dict) else []


class Jobs(_Declared):
    """A filter for jobs: a job must match every field that is given."""

    tasks: Annotated[list[str], Field(min_length=1)] | None = None
    tags: Annotated[list[Tag], Field(min_length=1)] | None = None
    """A job must have at least one of the tags. `team-*` matches every tag with that prefix."""
    outcomes: Annotated[list[Outcome], Field(min_length=1)] | None = None


class Webhook(_Declared):
    """A signed HTTP POST, retried until it is accepted."""

    url: Annotated[str, AfterValidator(_check_url)]
    """The address, or `secret/<name>` of the block that holds it."""
    secret: SecretName
    """The Secret block with the signing key."""


class Smtp(_Declared):
    """The SMTP server that sends e-mail."""

    host: Annotated[
        str,
        must_match(
            r"[A-Za-z0-9.:-]+", "is not one: use the name of a host, such as mail.example.org"
        ),
    ]
    port: Annotated[int, Field(ge=1, le=_MAX_PORT)] | None = None
    """Default: 587 for starttls, 465 for tls, 25 for none."""
    tls: Literal["none", "starttls", "tls"] = "starttls"
    user: Annotated[str, Field(min_length=1)] | None = None
    password: SecretName | None = None
    sender: EmailAddress = Field(alias="from")

    @model_validator(mode="after")
    def _check_login(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password go together: give both or none")
        if self.password is not None and self.tls == "none":
            raise ValueError("tls: none would send the password in clear: use starttls or tls")
        return self


class Email(_Declared):
    """An e-mail, retried until the server accepts it."""

    to: list[EmailAddress] = []
    domains: Annotated[list[Domain], Field(min_length=1)] | None = None
    """Instead of `to`: jobs name recipients at these domains, by tags such as
    notify:anna@example.org."""
    smtp: Smtp

    @model_validator(mode="after")
    def _check_recipients(self) -> Self:
        if bool(self.to) == bool(self.domains):
            raise ValueError("give either to, or the domains of recipients that jobs may name")
        return self


class Channel(_Declared):
    """The channel of a subscriber: exactly one field is given."""

    block: (
        Annotated[
            str,
            must_match(
                r"(?!secret/)[a-z0-9-]+/[a-z0-9][a-z0-9-]*",
                "is not one: use <type>/<name> of a notification block, such as slack-webhook/ops",
            ),
        ]
        | None
    ) = None
    webhook: Webhook | None = None
    email: Email | None = None

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if [self.block, self.webhook, self.email].count(None) != 2:
            raise ValueError("give exactly one of block, webhook, email")
        return self


class Subscriber(_Declared):
    """A receiver of notifications about the final state of jobs."""

    name: Annotated[
        str,
        # Each of several recipients is a subscriber, with the address in the name.
        must_match(
            rf"[a-z0-9][a-z0-9-]{{0,{_MAX_NAME - 1}}}(:\S+@\S+)?",
            f"is not one: use up to {_MAX_NAME} lower-case letters, digits and dashes, such as "
            "ops-team",
        ),
    ]
    jobs: Jobs = Jobs()
    to: Channel
    every: Duration | None = None
    """Seconds, or 30s, 1m, 2h: one message about all jobs that end in that time."""

    @model_validator(mode="after")
    def _check_every(self) -> Self:
        if self.every is not None and self.to.block is not None:
            raise ValueError(
                "every: an automation sends a message for each job: use a webhook or email, or "
                "leave it out"
            )
        return self

    @property
    def domains(self) -> list[str] | None:
        """The domains at which jobs may name recipients; None where jobs may name none."""
        return None if self.to.email is None else self.to.email.domains

    @property
    def gathers(self) -> float | None:
        """Seconds for which final events are gathered into one message; None: one message each.

        The default for recipients that jobs name is a minute: anyone may submit a thousand jobs
        that name somebody else.
        """
        every = self.every if self.every is not None else _NAMED_EVERY if self.domains else None
        return every or None

    def names_for(self, event: JobEnded) -> list[str]:
        """The subscriber names for the deliveries of an event: one for each recipient."""
        if self.domains is None:
            return [self.name]
        return [f"{self.name}:{address}" for address in _named_by(event.tags, self.domains)]

    def expanded(self, names: Sequence[str]) -> list[Self]:
        """This subscriber, or one for each recipient among `names` where jobs name recipients."""
        email = self.to.email
        if email is None or email.domains is None:
            return [self]
        prefix = f"{self.name}:"
        addresses = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        return [
            self.model_copy(
                update={
                    "name": prefix + address,
                    "every": self.gathers or 0.0,
                    "to": Channel(email=Email(to=[address], smtp=email.smtp)),
                }
            )
            for address in addresses
            if _domain(address) in email.domains
        ]

    @property
    def at_least_once(self) -> bool:
        """Whether deliveries are stored and retried; an automation with a block tries once."""
        return self.to.block is None

    def wants(self, event: JobEnded) -> bool:
        """Whether this subscriber is notified of a final event."""
        tasks, tags, outcomes = self.jobs.tasks, self.jobs.tags, self.jobs.outcomes
        return (
            (tasks is None or event.task in tasks)
            and (tags is None or any(_matches(tag, t) for tag in tags for t in event.tags))
            and (outcomes is None or any(isinstance(event, OUTCOMES[o]) for o in outcomes))
        )


def _named_by(tags: Sequence[str], domains: Sequence[str]) -> list[str]:
    """The recipients at `domains` that a job names by its tags, ten at most."""
    found: dict[str, None] = {}
    for tag in tags:
        address = tag.removeprefix(NOTIFY)
        if tag != address and _domain(address) in domains:
            try:
                found[_check_address(address)] = None
            except ValueError:
                continue  # no valid address: not a recipient
    return list(found)[:_MOST_NAMED]


def _domain(address: str) -> str:
    return address.rpartition("@")[2].lower()


def _matches(pattern: str, tag: str) -> bool:
    """Whether a tag matches a pattern, by the rule of Prefect's automations."""
    return tag.startswith(pattern[:-1]) if pattern.endswith("*") else tag == pattern
