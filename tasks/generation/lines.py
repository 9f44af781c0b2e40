"""What one generating container prints: lines of JSON to the topic, all else kept aside."""

import json
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime

from tasks.containers.logs import Live, Log
from tasks.containers.user_container import Printed
from tasks.generation.topics.topic import Topic

_LONGEST = 2**20  # bytes of a line: what brokers take of one message
_NUMBERS = tuple(b"%c" % c for c in b"-0123456789")
_KEPT = 2**10  # bytes of a longer one that are kept aside


@dataclass
class Counts:
    """What came of one container, over all its restarts."""

    messages: int = 0
    bytes: int = 0
    aside: int = 0
    """Lines that are no JSON, and those that are too long."""
    too_long: int = 0
    """Lines of more than 1 MiB."""
    restarts: int = 0
    given_up: bool = False
    first: datetime | None = None
    last: datetime | None = None


def is_json(line: bytes) -> bool:
    """Whether every reader takes a line for JSON: in UTF-8, without Python's NaN and Infinity."""
    try:
        json.loads(line.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError):  # so deep that others would not read it either
        return False
    return True


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


class Lines:
    """Splits what a container prints into lines, and delivers them in order."""

    def __init__(self, number: int, topic: Topic, counts: Counts, aside: Log, err: Log) -> None:
        self._number = number
        self._topic = topic
        self._counts = counts
        self._aside = aside
        self._err = err
        self.live = Live(lambda line: None)
        """Remembers the last lines of its standard error."""

    def take_all(self, printed: Printed) -> None:
        """Take what it prints to the end. Waits while the topic has no room, and so does it.

        Raises TopicUnavailable, OSError.
        """
        rest = b""
        too_long = False  # whether `rest` is the end of a line that was refused
        with closing(printed):
            for out, err in printed:
                if err:
                    self._err.write(err)
                    self.live.write(err)
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
        # A number that was cut off where the container was ended would be another number.
        if rest.strip()[:1] in _NUMBERS:
            self._put_aside(rest)
        elif not too_long:
            self._take(rest)
        self.live.close()

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
