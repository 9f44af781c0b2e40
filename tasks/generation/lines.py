"""Output of one generating container: lines of JSON go to the topic, others to a log."""

import json
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from tasks.containers.logs import LineView, Log
from tasks.containers.user_container import Printed
from tasks.generation.topics.topic import Topic

_LONGEST = 2**20  # maximum bytes of a line: the maximum message of brokers
_NUMBERS = tuple(b"%c" % c for c in b"-0123456789")
_KEPT = 2**10  # bytes of a longer line that are logged


@dataclass
class Counts:
    """Counts of one container's lines, over all its restarts."""

    messages: int = 0
    bytes: int = 0
    aside: int = 0
    """Lines that are no JSON or too long; they are logged, not delivered."""
    too_long: int = 0
    """Lines of more than 1 MiB."""
    restarts: int = 0
    given_up: bool = False
    first: datetime | None = None
    last: datetime | None = None


def is_json(line: bytes) -> bool:
    """Whether a line is valid JSON for every reader: UTF-8, without Python's NaN and Infinity."""
    try:
        json.loads(line.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):  # nested too deep for other readers as well
        return False
    return True


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


class Lines:
    """Splits a container's output into lines, and delivers them in order."""

    def __init__(self, number: int, topic: Topic, counts: Counts, aside: Log, err: Log) -> None:
        self._number = number
        self._topic = topic
        self._counts = counts
        self._aside = aside
        self._err = err
        self.err_view = LineView(lambda line: None)
        """Has the last lines of stderr."""

    def take_all(self, printed: Printed) -> None:
        """Read the output to its end. Blocks while the topic is full, which blocks the container.

        Raises TopicUnavailable, EngineUnavailable, and OSError where a log cannot be written.
        """
        rest = b""
        too_long = False  # whether `rest` continues a line that was too long
        with closing(printed):
            for out, err in printed:
                if err:
                    self._err.write(err)
                    self.err_view.write(err)
                if out:
                    *lines, rest = (rest + out).split(b"\n")
                    for line in lines:
                        if not too_long:
                            self._take(line)
                        too_long = False
                    if len(rest) > _LONGEST and not too_long:
                        self._refuse(rest)
                        too_long = True
                    if too_long:
                        rest = b""
        # An unfinished line with a number may be a cut off number, which is valid JSON too.
        if rest.strip()[:1] in _NUMBERS:
            self._put_aside(rest)
        elif not too_long:
            self._take(rest)
        self.err_view.close()

    def _take(self, line: bytes) -> None:
        line = line.strip()
        if not line:
            return
        if len(line) > _LONGEST:
            self._refuse(line)
            return
        if not is_json(line):
            self._put_aside(line + b"\n")
            return
        self._topic.deliver(self._number, line)
        counts = self._counts
        counts.messages += 1
        counts.bytes += len(line)
        counts.last = datetime.now(UTC)
        counts.first = counts.first or counts.last

    def _refuse(self, line: bytes) -> None:
        self._counts.too_long += 1
        mark = f"… [prefecture: a line of more than {_LONGEST:,} bytes]\n"
        self._put_aside(line[:_KEPT] + mark.encode())

    def _put_aside(self, line: bytes) -> None:
        self._counts.aside += 1
        self._aside.write(line)
