"""Classification of crashes, and whether to retry: ordered rules, of which the first match wins."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

from prefect.client.schemas.objects import State, StateType

from tasks.contracts import INFRASTRUCTURE
from work_pools.supervisor.infrastructure.instance import Exit

_CODE = re.compile(r"status code:? (-?\d+)")
_SUBMIT = "Failed to submit flow run to infrastructure: "
_PARAMETERS = re.compile(r"\b(SignatureMismatchError|ParameterBindError|ParameterTypeError)\b")
_IMPORT = re.compile(
    r"^.*(\b(?:ModuleNotFoundError|ImportError|SyntaxError|ScriptError)\b|No module named).*$",
    re.MULTILINE,
)
_COMMAND = re.compile(r"executable file not found|exec format error")
_NO_ENGINE = re.compile(
    r"Could not connect to Docker|Docker engine (?:does not|has)", re.IGNORECASE
)
_KILLED = {137, -9, 143, -15}
_COMMAND_FAULTS = {125, 126, 127}
_DECIDED = frozenset(
    {StateType.CANCELLING, StateType.CANCELLED, StateType.FAILED, StateType.COMPLETED}
)
_LONGEST_BACKOFF = 600.0  # seconds


@dataclass(frozen=True)
class Crash:
    """A crashed attempt: its state's message, and how its container or process ended."""

    message: str
    """Message of the state Crashed."""
    exit: Exit = field(default_factory=Exit)

    @property
    def code(self) -> int | None:
        """Exit code from the Docker engine, else from the worker's message; None where unknown."""
        if self.exit.code is not None:
            return self.exit.code
        found = _CODE.search(self.message)
        return int(found[1]) if found else None

    @property
    def text(self) -> str:
        """All messages about the crash, with the last lines of output."""
        return "\n".join((self.message, self.exit.error, self.exit.tail))


@dataclass(frozen=True)
class Rule:
    """A kind of crash: its test, whether a retry may succeed, and its reason for people."""

    fits: Callable[[Crash], bool]
    retry: bool
    reason: Callable[[Crash], str]


class Verdict(NamedTuple):
    """Whether the job is retried, and the reason of the crash in one line."""

    retry: bool
    reason: str


RULES = (
    # Reported by the attempt itself, which knows more than its exit code.
    Rule(
        lambda c: c.message.startswith(INFRASTRUCTURE),
        True,
        lambda c: _short(c.message.removeprefix(INFRASTRUCTURE)),
    ),
    # Faults of the job itself: a retry would fail too.
    Rule(
        lambda c: c.code == 1 and bool(_PARAMETERS.search(c.text)),
        False,
        lambda c: "parameters do not fit this task: submit again with those that it asks for",
    ),
    Rule(
        lambda c: c.code == 1 and bool(_IMPORT.search(c.text)),
        False,
        lambda c: f"the flow cannot be loaded: {_line(_IMPORT, c.text)}",
    ),
    Rule(
        lambda c: c.code in _COMMAND_FAULTS or bool(_COMMAND.search(c.exit.error or c.message)),
        False,
        lambda c: (
            f"the job's command cannot run{_code(c)}: {_short(c.exit.error or c.message)}: "
            "fix the image or the pool"
        ),
    ),
    # Faults of the infrastructure: transient, or limited to one host.
    Rule(
        lambda c: c.exit.out_of_memory,
        True,
        lambda c: (
            f"out of memory: the limit is {c.exit.limit / 2**20:,.0f} MiB; "
            "the job variable mem_limit raises it"
        ),
    ),
    Rule(
        lambda c: bool(_NO_ENGINE.search(c.message)),
        True,
        lambda c: "could not start: the Docker engine does not answer",
    ),
    Rule(
        lambda c: c.message.startswith(_SUBMIT),
        True,
        lambda c: f"could not start: {_short(c.message.partition(': ')[2])}",
    ),
    # Started, and ended by somebody or by ECS itself; or never started, for want of its image.
    Rule(
        lambda c: not c.exit.code and bool(c.exit.stopped),
        True,
        lambda c: f"its task in ECS ended: {_short(c.exit.stopped)}",
    ),
    Rule(lambda c: c.code in _KILLED, True, lambda c: f"killed{_code(c)}"),
    Rule(lambda c: True, True, lambda c: f"crashed{_code(c)}: {_short(c.message)}"),
)


def judge(crash: Crash) -> Verdict:
    """The verdict of the first rule that fits. The last rule fits every crash."""
    rule = next(rule for rule in RULES if rule.fits(crash))
    return Verdict(rule.retry, rule.reason(crash))


def backoff(job: UUID, attempt: int, base: float) -> float:
    """Seconds before an attempt starts: 0 for the second, then `base`, doubled for each later one,
    times a jitter of 0.5 to 1.5.

    The jitter depends on job and attempt alone, so all supervisors compute the same delay.
    """
    if attempt <= 2:
        return 0.0
    jitter = random.Random(f"{job}.{attempt}").uniform(0.5, 1.5)
    return min(_LONGEST_BACKOFF, base * 2 ** (attempt - 3)) * jitter


def _code(crash: Crash) -> str:
    return "" if crash.code is None else f" (exit code {crash.code})"


def _line(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return _short(found[0]) if found else ""


def _short(text: str) -> str:
    return " ".join(text.split())[:300]


def decision(history: Sequence[State]) -> State | None:
    """The last final or Cancelling state of an attempt since it was last scheduled, Crashed states
    left out; None where there is none."""
    decided = None
    for state in history:
        if state.type == StateType.SCHEDULED:
            decided = None
        elif state.type in _DECIDED:
            decided = state
    return decided


def message_of(history: Sequence[State]) -> str:
    """The message of the crash at the end of a history: the attempt's own where there is one."""
    messages: list[str] = []
    for state in reversed(history):
        if state.type != StateType.CRASHED:
            break
        messages.append(state.message or "")
    own = [message for message in messages if message.startswith(INFRASTRUCTURE)]
    return next(iter([*own, *messages]), "")


def is_of_infrastructure(state: State) -> bool:
    """Whether an attempt itself reported a fault of the infrastructure."""
    return (state.message or "").startswith(INFRASTRUCTURE)
