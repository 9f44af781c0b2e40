"""librdkafka's mock broker, over TCP, a process of its own: `python -m tests.tasks.topics.broker`.

Not Apache Kafka: it speaks the protocol, and keeps what it is given in memory.
"""

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition

from tests.support.platform import ends_with_us


@dataclass
class Broker:
    """A running mock broker."""

    address: str
    process: subprocess.Popen[str]

    def read(self, topic: str, count: int, timeout: float = 30.0) -> list[tuple[bytes, bytes]]:
        """Key and value of the first `count` messages of a topic, by a real consumer."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.address,
                "group.id": "tests",
                "enable.auto.commit": False,
            }
        )
        # Not by a subscription: to join a group takes 3 s.
        partitions = consumer.list_topics(topic, timeout=timeout).topics[topic].partitions
        consumer.assign([TopicPartition(topic, n, OFFSET_BEGINNING) for n in partitions])
        found: list[tuple[bytes, bytes]] = []
        try:
            for message in iter(lambda: consumer.poll(timeout), None):
                assert message.error() is None, message.error()
                key: Any = message.key()
                value: Any = message.value()
                found.append((key, value))
                if len(found) >= count:
                    break
        finally:
            consumer.close()
        return found


@contextmanager
def mock_broker() -> Generator[Broker]:
    """A broker that ends with the block, or when its process is killed."""
    command = ends_with_us(sys.executable, "-m", "tests.tasks.topics.broker")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield Broker(process.stdout.readline().strip(), process)
        finally:
            process.kill()


if __name__ == "__main__":
    cluster = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1})
    (broker,) = cluster.list_topics(timeout=10).brokers.values()
    print(f"{broker.host}:{broker.port}", flush=True)
    while True:
        cluster.poll(1.0)
