"""Who is told of which jobs, and where.

A subscriber is plain JSON with all that is needed to reach them, but for secrets: those stay in
Prefect's Secret blocks, are named here as `secret/<name>`, and are read at each delivery.
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

from tasks.runtime.events import JobCancelled, JobCompleted, JobEnded, JobFailed

SECRET = "secret/"
OUTCOMES = {"completed": JobCompleted, "failed": JobFailed, "cancelled": JobCancelled}
_MAX_NAME = 64
_MAX_PORT = 65_535
_MAX_ADDRESS = 254  # of RFC 5321, in characters
NOTIFY = "notify:"
"""Before an address, in the tag by which a job names a recipient."""
_MOST_NAMED = 10  # recipients of one job
_NAMED_EVERY = 60.0  # seconds
_UNITS = {"s": 1, "m": 60, "h": 3600}
_LONGEST_EVERY = 86_400.0  # seconds


def _matching(pattern: str, cure: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{value!r} is not one: {cure}")
        return value

    return AfterValidator(check)


def _parse_duration(value: object) -> object:
    """Seconds, of a number with a unit; whatever else is given is for the type to judge."""
    if isinstance(value, str):
        matched = re.fullmatch(r"(\d{1,6})([smh])", value)
        if matched is None:
            raise ValueError(f"{value!r} is not one: use a number with s, m or h, such as 1m")
        return float(matched[1]) * _UNITS[matched[2]]
    return value


def parse_url(value: str) -> httpx.URL:
    """The address of a webhook. Raises ValueError, which shows no more of it than the host.

    What follows the host can be a secret, and so can anything that is no address.
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
            "names no Secret block: save the secret in one, and write secret/<name> here"
        )
    return value


SecretName = Annotated[str, AfterValidator(_check_secret)]
"""`secret/<name>`, the place of a secret. What is written there by mistake is not shown."""

Domain = Annotated[
    str,
    _matching(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", "use the part behind @, such as example.org"),
    AfterValidator(str.lower),
]
EmailAddress = Annotated[str, AfterValidator(_check_address)]
Duration = Annotated[
    float, BeforeValidator(_parse_duration), Field(ge=0, le=_LONGEST_EVERY, allow_inf_nan=False)
]
"""Seconds, given as a number of them or as 30s, 1m, 2h; a day at most."""
Tag = Annotated[str, Field(min_length=1)]
Outcome = Literal["completed", "failed", "cancelled"]


class _Declared(BaseModel):
    """A part of the file. An unknown field is refused, and the known ones are named."""

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
    """Which jobs: those that fit each field that is given."""

    tasks: Annotated[list[str], Field(min_length=1)] | None = None
    tags: Annotated[list[Tag], Field(min_length=1)] | None = None
    """Any of them will do. One that ends in * stands for all that start so."""
    outcomes: Annotated[list[Outcome], Field(min_length=1)] | None = None


class Webhook(_Declared):
    """A signed HTTP POST, tried again until it is taken."""

    url: Annotated[str, AfterValidator(_check_url)]
    """The address, or the Secret block that holds it."""
    secret: SecretName
    """The Secret block with the key of the signature."""


class Smtp(_Declared):
    """The server that e-mail is handed to."""

    host: Annotated[
        str, _matching(r"[A-Za-z0-9.:-]+", "use the name of a host, such as mail.example.org")
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
    """An e-mail, tried again until the server takes it."""

    to: list[EmailAddress] = []
    domains: Annotated[list[Domain], Field(min_length=1)] | None = None
    """In place of `to`: each job names its own recipients by tags such as
    notify:anna@example.org, and those at these domains are notified."""
    smtp: Smtp

    @model_validator(mode="after")
    def _check_recipients(self) -> Self:
        if bool(self.to) == bool(self.domains):
            raise ValueError("give either to, or the domains of recipients that jobs may name")
        return self


class Channel(_Declared):
    """Where a subscriber is told: one of these."""

    block: (
        Annotated[
            str,
            _matching(
                r"(?!secret/)[a-z0-9-]+/[a-z0-9][a-z0-9-]*",
                "use <type>/<name> of a notification block, such as slack-webhook/ops",
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
    """Someone who is told when jobs end."""

    name: Annotated[
        str,
        # Of several recipients each is a subscriber of their own, with the address in the name.
        _matching(
            rf"[a-z0-9][a-z0-9-]{{0,{_MAX_NAME - 1}}}(:\S+@\S+)?",
            f"use up to {_MAX_NAME} lower-case letters, digits and dashes, such as ops-team",
        ),
    ]
    jobs: Jobs = Jobs()
    to: Channel
    every: Duration | None = None
    """Seconds, or 30s, 1m, 2h: the ends of so long are one message."""

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
        """The domains of the recipients that jobs may name; None where jobs name none here."""
        return None if self.to.email is None else self.to.email.domains

    @property
    def gathers(self) -> float | None:
        """Seconds for which ends are gathered into one message; None where each is one.

        What jobs send to recipients of their own is gathered for a minute unless `every` says
        otherwise: anyone may submit a thousand jobs that name somebody else.
        """
        every = self.every if self.every is not None else _NAMED_EVERY if self.domains else None
        return every or None

    def names_for(self, ended: JobEnded) -> list[str]:
        """The names under which the end of a job is delivered: one for each recipient."""
        if self.domains is None:
            return [self.name]
        return [f"{self.name}:{address}" for address in _named_by(ended.tags, self.domains)]

    def expanded(self, names: Sequence[str]) -> list[Self]:
        """This subscriber, or in its place one for each of the names that it has given out."""
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
        """Whether a delivery is kept and tried again; a block's automation tries once."""
        return self.to.block is None

    def wants(self, ended: JobEnded) -> bool:
        """Whether this subscriber is to hear of a job's end."""
        tasks, tags, outcomes = self.jobs.tasks, self.jobs.tags, self.jobs.outcomes
        return (
            (tasks is None or ended.task in tasks)
            and (tags is None or any(_stands_for(tag, t) for tag in tags for t in ended.tags))
            and (outcomes is None or any(isinstance(ended, OUTCOMES[o]) for o in outcomes))
        )


def _named_by(tags: Sequence[str], domains: Sequence[str]) -> list[str]:
    """The recipients that a job names by its tags, of those domains alone."""
    found: dict[str, None] = {}
    for tag in tags:
        address = tag.removeprefix(NOTIFY)
        if tag != address and _domain(address) in domains:
            try:
                found[_check_address(address)] = None
            except ValueError:
                continue  # no address: nobody can be reached there
    return list(found)[:_MOST_NAMED]


def _domain(address: str) -> str:
    return address.rpartition("@")[2].lower()


def _stands_for(pattern: str, tag: str) -> bool:
    """As Prefect's automations match labels."""
    return tag.startswith(pattern[:-1]) if pattern.endswith("*") else tag == pattern
