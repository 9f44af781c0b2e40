"""The reason of a job that did not reach a host, with the cure, in a closed network."""

import re

from prefect import State
from prefect.logging import get_run_logger
from prefect.states import Failed

from tasks.errors import in_short
from tasks.settings import reached_hosts

# Libraries raise errors of their own for this, some without those of the system behind them.
_UNREACHED = re.compile(
    "could not connect|couldn't connect|cannot connect|connection refused|network is unreachable"
    "|name or service not known|temporary failure in name resolution|could not translate host name"
    "|no address associated|failed to resolve|unable to locate credentials|no broker answers",
    re.IGNORECASE,
)
_USUAL_PORT = re.compile(":(80|443)$")
_CURE = (
    "jobs reach listed hosts alone: list this one as name:port in PREFECTURE_JOB_HOSTS, or set "
    "PREFECTURE_JOB_NETWORK=open"
)


def with_cure(message: str, error: BaseException) -> str:
    """A job's reason; with what to list, where the job is in a closed network and `error`, or one
    behind it, says that a host which is not listed was not reached."""
    listed = reached_hosts()
    texts = [message, *map(str, _chain(error))]
    if listed is None or not any(map(_UNREACHED.search, texts)):
        return message
    known = [_USUAL_PORT.sub("", host.partition("=")[0]) for host in listed]
    if any(host in text for host in known for text in texts):
        return message
    return f"{message}: {_CURE}"


def unreached(error: Exception) -> State:
    """Failed, with the cure, for an error that is no PrefectureError and says that a host was not
    reached. Raises any other, unchanged."""
    message = f"Flow run encountered an exception: {in_short(error)}"
    reason = with_cure(message, error)
    if reason == message:
        raise error
    get_run_logger().error("%s", reason, exc_info=error)
    return Failed(message=reason)


def _chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found
