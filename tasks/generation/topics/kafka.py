"""A topic of Apache Kafka, through librdkafka: idempotent, so in order and none lost or doubled by
a retry."""

import threading
import time
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from tasks.errors import TopicUnavailable

_ANSWER = 10.0  # seconds in which a broker must answer at first
_PATIENCE = 60.0  # seconds in which it must take something of what is waiting, later
_LAST_WORDS = 2.0  # seconds for what is on its way, once the job is being ended
_BUFFER = 32 * 2**10  # KiB of lines on their way
_POLL = 0.1  # seconds
# Of a topic that the brokers make when something is sent to it; if they do not, that says so.
_NEW = (KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART)


class KafkaTopic:
    """Sends each container's lines to one partition, in order."""

    def __init__(
        self, servers: str, topic: str, *, patience: float = _PATIENCE, buffer: int = _BUFFER
    ) -> None:
        """Connect. `patience` in seconds, `buffer` in KiB.

        Raises TopicUnavailable where no broker answers within 10 s, or none has such a topic.
        """
        self._servers = servers
        self._topic = topic
        self._patience = patience
        self._delivered = self._sent = 0
        self._counting = threading.Lock()
        self._progress = time.monotonic()
        self._fault: str | None = None
        self._hurried: float | None = None
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "enable.idempotence": True,
                "compression.type": "lz4",
                "linger.ms": 20,
                "queue.buffering.max.kbytes": buffer,
                # Ours is the patience: a line that is given up would be lost.
                "message.timeout.ms": 0,
                "logger": _Quiet(),
            }
        )
        try:
            found = self._producer.list_topics(topic, timeout=_ANSWER).topics[topic]
        except KafkaException as error:
            raise self._unavailable(f"no broker answers: {_text(error)}") from error
        if found.error is not None and found.error.code() not in _NEW:
            raise self._unavailable(found.error.str())

    @property
    def place(self) -> str:
        """Its address."""
        return f"kafka://{self._servers}/{self._topic}"

    @property
    def environment(self) -> dict[str, str]:
        """By the names that generators of the original read."""
        return {
            "TOPIC": self._topic,
            "KAFKA_TOPIC": self._topic,
            "KAFKA_BOOTSTRAP_SERVERS": self._servers,
            "KAFKA_BOOTSTRAP_SERVERS_DOCKER": self._servers,
        }

    @property
    def delivered(self) -> int:
        """Lines that the brokers have acknowledged."""
        return self._delivered

    @property
    def pending(self) -> int:
        """Lines in the buffer."""
        return self._sent - self._delivered

    def deliver(self, source: int, line: bytes) -> None:
        """See Topic."""
        while True:
            self._check()
            try:
                self._producer.produce(
                    self._topic, line, key=str(source).encode(), on_delivery=self._told
                )
            except BufferError:
                self._producer.poll(_POLL)  # has no room: whoever prints must wait
                continue
            except KafkaException as error:
                raise self._unavailable(_text(error)) from error
            break
        with self._counting:
            if self._sent == self._delivered:
                self._progress = time.monotonic()  # nothing was waiting
            self._sent += 1

    def hurry(self) -> None:
        """See Topic."""
        self._hurried = self._hurried or time.monotonic()

    def close(self) -> None:
        """See Topic."""
        while len(self._producer):
            self._check()
            self._producer.flush(_POLL)
        self._check()

    def _told(self, error: KafkaError | None, _: Any) -> None:
        with self._counting:
            if error is not None:
                self._fault = error.str()
                return
            self._delivered += 1
            self._progress = time.monotonic()

    def _check(self) -> None:
        # What the brokers have said since: whoever prints a line now and then comes here seldom.
        self._producer.poll(0)
        if self._fault is not None:
            raise self._unavailable(self._fault)
        now = time.monotonic()
        if self.pending and now - self._progress > self._patience:
            raise self._unavailable(
                f"it has taken nothing for {self._patience:.0f} s, and {self.pending:,} lines wait"
            )
        if self.pending and self._hurried and now - self._hurried > _LAST_WORDS:
            raise self._unavailable(f"the job was ended, and {self.pending:,} lines waited")

    def _unavailable(self, reason: str) -> TopicUnavailable:
        return TopicUnavailable(
            f"topic {self.place}: {reason}: check the address, and that the broker runs"
        )


class _Quiet:
    """librdkafka's own lines: what matters comes as an error too."""

    def log(self, *_: object) -> None:
        """Nothing."""


def _text(error: KafkaException) -> str:
    first: Any = error.args[0] if error.args else error
    return " ".join(str(first.str() if isinstance(first, KafkaError) else first).split())
