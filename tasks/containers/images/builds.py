"""An image that is built for one job, from files that are not trusted."""

import re
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError

from tasks.containers.engine import api, asking, away, explained
from tasks.containers.images.buildkit import platform_args
from tasks.containers.images.context import instructions
from tasks.containers.images.pinned import Login, is_transient, log_in
from tasks.containers.rules import is_offline
from tasks.errors import EngineUnavailable, InvalidPayload, RegistryUnavailable

_CPU_SHARES = 512  # half of what a container has by default
_LAST = 3  # lines of a failing step that are told
_PULLS = re.compile(r"^Step \S+ : (FROM|COPY --from)\b", re.IGNORECASE)
_OWN = ("--->", "Removing intermediate container")  # what the engine says in between


def build(
    client: docker.DockerClient,
    context: Path,
    tag: str,
    *,
    memory: int,
    network: str,
    seconds: float,
    say: Callable[[str], None],
    dockerfile: str = "",
    args: Mapping[str, str] | None = None,
    target: str = "",
    login: Login | None = None,
) -> None:
    """Build `context`, a tarball, and name it `tag`. `memory` in bytes; `say` is told each line.

    `dockerfile`: its text; `args`: values of its ARGs; `target`: the stage to stop at; `login`: for
    the registry of what it starts from. `client` must give up after `seconds` of silence. Raises
    InvalidPayload with the failing step where it does not build, or takes longer than `seconds`;
    RegistryUnavailable where an image that it starts from cannot be pulled for now.
    """
    if login is not None:
        log_in(client, login)
    with asking("the engine's platform cannot be read"):
        version: dict[str, str] = api(client).version()
    known = platform_args(instructions(dockerfile), version["Os"], version["Arch"])
    options: dict[str, Any] = {"buildargs": known | dict(args or {}), "target": target or None}
    end = time.monotonic() + seconds
    step = "before the first step"
    lines: list[str] = []
    late = InvalidPayload(
        f"the image does not build within {seconds:.0f} s: raise max_duration, or do less in it"
    )
    try:
        with (
            away(),
            context.open("rb") as file,
            closing(_events(client, file, tag, memory, network, options)) as events,
        ):
            for event in events:
                if "error" in event:
                    raise _unbuilt(step, lines, str(event["error"]), network)
                text = str(event.get("stream", ""))
                if text.startswith("Step "):
                    step, lines = text.strip(), []
                elif (line := _plain(text)) and not line.startswith(_OWN):
                    lines.append(line)
                if text:
                    say(text)
                if time.monotonic() > end:
                    raise late  # to hang up ends the build
    except APIError as error:
        raise InvalidPayload(f"the image does not build: {explained(error)}") from error
    except EngineUnavailable as error:
        if time.monotonic() > end:
            raise late from error
        if isinstance(error.__cause__, APIError):
            # A Dockerfile that it cannot read, among others.
            raise InvalidPayload(
                f"the image does not build: {explained(error.__cause__)}"
            ) from error
        raise


def _events(
    client: docker.DockerClient,
    context: Any,
    tag: str,
    memory: int,
    network: str,
    options: Mapping[str, Any],
) -> Generator[dict[str, Any], None, None]:
    return api(client).build(
        fileobj=context,
        custom_context=True,
        tag=tag,
        rm=True,
        forcerm=True,
        decode=True,
        network_mode=network,
        container_limits={
            "memory": memory,
            "memswap": memory,
            "cpushares": _CPU_SHARES,
        },
        **options,
    )


def _plain(text: str) -> str:
    """A line without the colours in which the engine tells standard error."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())


def _unbuilt(
    step: str, lines: list[str], error: str, network: str
) -> InvalidPayload | RegistryUnavailable:
    said = " | ".join(lines[-_LAST:])
    reason = " ".join(error.split())
    told = f"the image does not build: {step}: {reason}{f': {said}' if said else ''}"[:600]
    if _PULLS.match(step) and is_transient(reason):
        return RegistryUnavailable(told)
    if network == "none" and is_offline(lines):
        told += (
            ' (a build has no network: "network": "bridge" in the payload gives it the internet; '
            "or put what it installs beside the Dockerfile)"
        )
    return InvalidPayload(told)
