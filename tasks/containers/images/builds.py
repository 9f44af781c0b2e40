"""Building of an image for one job, from untrusted files."""

import re
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError

from tasks.containers.engine import api, engine_call, engine_outages, explained
from tasks.containers.images.bases import check_bases
from tasks.containers.images.buildkit import platform_args
from tasks.containers.images.dockerfile import bases, instructions
from tasks.containers.images.pinned import Login, is_transient, log_in
from tasks.containers.images.step_limits import StepLimits
from tasks.containers.images.steps import CPU_SHARES, MOST_PROCESSES
from tasks.containers.rules import is_offline, lacks_processes
from tasks.errors import EngineUnavailable, InvalidPayload, RegistryUnavailable

_LAST = 3  # lines of a failed step in the error message
_PULLS = re.compile(r"^Step \S+ : (FROM|COPY --from)\b", re.IGNORECASE)
_OWN = ("--->", "Removing intermediate container")  # the engine's own lines between the steps'


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
    """Build an image from the tarball `context`, with the name `tag`.

    `memory`: bytes for each step; `say` is called with each line of output. `dockerfile`: its text;
    `args`: values of its ARGs; `target`: the last stage to build; `login`: for the registry of base
    images. `client` must time out after `seconds` without an answer. Raises InvalidPayload with the
    failed step where the build fails or takes longer than `seconds`, and where the engine would
    fetch an address for a base image; RegistryUnavailable where a base image cannot be pulled for
    now; EngineUnavailable.
    """
    if login is not None:
        log_in(client, login)
    with engine_call("the engine's platform cannot be read"):
        version: dict[str, str] = api(client).version()
    known = platform_args(instructions(dockerfile), version["Os"], version["Arch"])
    values = known | dict(args or {})
    own = f"{version['Os']}/{version['Arch']}"
    check_bases(client, bases(dockerfile, values, target), own, login)
    options: dict[str, Any] = {"buildargs": values, "target": target or None}
    end = time.monotonic() + seconds
    step = "before the first step"
    lines: list[str] = []
    limits = StepLimits(client, memory, network)
    late = InvalidPayload(
        f"the image does not build within {seconds:.0f} s: raise max_duration, or do less in it"
    )
    try:
        with (
            engine_outages(),
            context.open("rb") as file,
            closing(_events(client, file, tag, memory, network, options)) as events,
        ):
            for event in events:
                if "error" in event:
                    raise _unbuilt(step, lines, str(event["error"]), network)
                text = str(event.get("stream", ""))
                limits.see(text)
                if text.startswith("Step "):
                    step, lines = " ".join(text.split()), []
                elif (line := _plain(text)) and not line.startswith(_OWN):
                    lines.append(line)
                if text:
                    say(text)
                if time.monotonic() > end:
                    raise late  # closing the connection stops the build
    except APIError as error:
        raise InvalidPayload(f"the image does not build: {explained(error)}") from error
    except EngineUnavailable as error:
        if time.monotonic() > end:
            raise late from error
        if isinstance(error.__cause__, APIError):
            # The engine reports a Dockerfile that it cannot parse, among others, as status 500.
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
            "cpushares": CPU_SHARES,
        },
        **options,
    )


def _plain(text: str) -> str:
    """A line without the colours with which the engine marks stderr."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())


def _unbuilt(
    step: str, lines: list[str], error: str, network: str
) -> InvalidPayload | RegistryUnavailable:
    said = " | ".join(lines[-_LAST:])
    reason = " ".join(error.split())
    line = f"the image does not build: {step}: {reason}{f': {said}' if said else ''}"[:600]
    if _PULLS.match(step) and is_transient(reason):
        return RegistryUnavailable(line)
    if network == "none" and is_offline(lines):
        line += (
            ' (a build has no network: "network": "bridge" in the payload gives it the internet; '
            "or put what it installs beside the Dockerfile)"
        )
    if lacks_processes([*lines, reason]):
        line += f" (a step may have {MOST_PROCESSES:,} processes and threads: start fewer)"
    return InvalidPayload(line)
