"""A topic of Apache Kafka. librdkafka's idempotent producer keeps the order of lines, and its
retries neither lose nor duplicate any."""

import threading
import time
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from tasks.errors import TopicUnavailable

_ANSWER = 10.0  # seconds for the first answer of a broker
_STALL_TIMEOUT = 60.0  # seconds without an acknowledgement, while lines wait, after which it fails
_HURRY = 2.0  # seconds for the lines that wait, once the job is being stopped
_BUFFER = 32 * 2**10  # KiB of lines that wait for an acknowledgement
_POLL = 0.1  # seconds
# Errors of a topic that the brokers may create at the first line; if not, that line fails.
_NEW = (KafkaError.LEADER_NOT_AVAILABLE, KafkaError.UNKNOWN_TOPIC_OR_PART)


class KafkaTopic:
    """Sends each container's lines to one partition, in order."""

    def __init__(
        self,
        servers: str,
        topic: str,
        *,
        stall_timeout: float = _STALL_TIMEOUT,
        buffer: int = _BUFFER,
    ) -> None:
        """Connect. `stall_timeout`: seconds without an acknowledgement; `buffer` in KiB.

        Raises TopicUnavailable where no broker answers within 10 s, or the topic is refused.
        """
        self._servers = servers
        self._topic = topic
        self._stall_timeout = stall_timeout
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
                # No timeout here, after which a line would be lost: see _check.
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
        """Its address, kafka://servers/topic."""
        return f"kafka://{self._servers}/{self._topic}"

    @property
    def environment(self) -> dict[str, str]:
        """Topic and servers, under the names that existing generators read."""
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
        """Lines that wait for an acknowledgement."""
        return self._sent - self._delivered

    def deliver(self, source: int, line: bytes) -> None:
        """See Topic."""
        while True:
            self._check()
            try:
                self._producer.produce(
                    self._topic, line, key=str(source).encode(), on_delivery=self._on_delivery
                )
            except BufferError:
                self._producer.poll(_POLL)  # the buffer is full: the container waits
                continue
            except KafkaException as error:
                raise self._unavailable(_text(error)) from error
            break
        with self._counting:
            if self._sent == self._delivered:
                self._progress = time.monotonic()  # no lines waited: start the timeout
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

    def _on_delivery(self, error: KafkaError | None, _: Any) -> None:
        with self._counting:
            if error is not None:
                self._fault = error.str()
                return
            self._delivered += 1
            self._progress = time.monotonic()

    def _check(self) -> None:
        # Process acknowledgements first: with few lines, this is called rarely.
        self._producer.poll(0)
        if self._fault is not None:
            raise self._unavailable(self._fault)
        now = time.monotonic()
        if self.pending and now - self._progress > self._stall_timeout:
            raise self._unavailable(
                f"no line was acknowledged for {self._stall_timeout:.0f} s, "
                f"{self.pending:,} lines wait"
            )
        if self.pending and self._hurried and now - self._hurried > _HURRY:
            raise self._unavailable(f"the job was stopped while {self.pending:,} lines waited")

    def _unavailable(self, reason: str) -> TopicUnavailable:
        return TopicUnavailable(
            f"topic {self.place}: {reason}: check the address, and that the broker runs"
        )


class _Quiet:
    """Logger that drops librdkafka's own lines: what matters is raised as an error too."""

    def log(self, *_: object) -> None:
        """Drop a line."""


def _text(error: KafkaException) -> str:
    first: Any = error.args[0] if error.args else error
    return " ".join(str(first.str() if isinstance(first, KafkaError) else first).split())
