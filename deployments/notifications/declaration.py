"""Reads the file that declares subscribers, by default deployments/notifications.yaml."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import ValidationError

from deployments.notifications.subscribers import Channel, Email, Subscriber
from tasks.errors import OperatorError


def read_subscribers(path: Path, tasks: Collection[str] | None = None) -> list[Subscriber]:
    """Read the subscribers that a file declares; each recipient of e-mail becomes a subscriber.

    `tasks`: the names of all compute tasks; None skips that check. Raises OperatorError, which
    names the subscriber and the field, where the file is wrong.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise OperatorError(f"{path} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2026-13-45
        raise OperatorError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    sections = _mapping(content, str(path)) if content is not None else {}
    _refuse_unknown(sections, path)
    entries = sections.get("subscribers")
    if entries is not None and not isinstance(entries, list):
        raise OperatorError(f"{path}: subscribers: must be a list; start each one with '- name:'")
    found: dict[str, list[Subscriber]] = {}
    for number, entry in enumerate(cast("list[Any]", entries or []), 1):
        subscriber = _read_one(path, number, entry, sections.get("smtp"))
        if subscriber.name in found:
            raise OperatorError(
                f"{path}: there are two subscribers {subscriber.name!r}: rename one"
            )
        _check_tasks(path, subscriber, tasks)
        found[subscriber.name] = _split_recipients(subscriber)
    return [subscriber for split in found.values() for subscriber in split]


def _mapping(value: Any, what: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise OperatorError(f"{what}: must hold fields such as 'name: value', not {value!r:.40}")
    return cast("dict[Any, Any]", value)


def _refuse_unknown(sections: dict[Any, Any], path: Path) -> None:
    for section in sections:
        if section not in ("subscribers", "smtp"):
            raise OperatorError(f"{path}: there is no section {section!r}: use subscribers, smtp")


def _read_one(path: Path, number: int, entry: Any, smtp: Any) -> Subscriber:
    declared = _mapping(entry, f"{path}: subscriber {number}")
    label = f"{path}: subscriber {declared.get('name', number)!r}"
    match declared.get("to"):
        case {"email": {**email}, **channels}:
            if smtp is None:
                raise OperatorError(f"{label}: to.email: needs a section smtp: add host and from")
            declared |= {"to": {**channels, "email": {"smtp": smtp} | email}}
        case _:
            pass
    try:
        subscriber = Subscriber.model_validate(declared)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])).replace("to.email.smtp", "smtp")
        fault = "is missing" if first["type"] == "missing" else first["msg"]
        fault = fault.removeprefix("Value error, ")
        raise OperatorError(": ".join(filter(None, [label, field, fault]))) from None
    if ":" in subscriber.name:
        raise OperatorError(f"{label}: name: leave out ':', such as ops-team")
    return subscriber


def _check_tasks(path: Path, subscriber: Subscriber, tasks: Collection[str] | None) -> None:
    unknown = [] if tasks is None else [t for t in subscriber.jobs.tasks or [] if t not in tasks]
    if tasks is not None and unknown:
        raise OperatorError(
            f"{path}: subscriber {subscriber.name!r}: jobs.tasks: there is no compute task "
            f"{unknown[0]!r}: use {', '.join(sorted(tasks))}"
        )


def _split_recipients(subscriber: Subscriber) -> list[Subscriber]:
    """One subscriber per recipient: a refused recipient must not cause retries to the others."""
    email = subscriber.to.email
    if email is None or email.domains is not None:
        return [subscriber]
    return [
        subscriber.model_copy(
            update={
                "name": f"{subscriber.name}:{address}",
                "to": Channel(email=Email(to=[address], smtp=email.smtp)),
            }
        )
        for address in dict.fromkeys(email.to)
    ]
