"""librdkafka's mock broker, over TCP, as a process.

    python -m tests.tasks.generation.topics.broker

Not Apache Kafka: it speaks the protocol, and keeps what it is given in memory.
"""

import ctypes
import re
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

from tests.support.platform import ends_with_us

_ANSWER = 30.0  # seconds


@dataclass
class Broker:
    """A running mock broker."""

    address: str
    process: subprocess.Popen[str]

    def read(self, topic: str) -> list[tuple[bytes, bytes]]:
        """Key and value of every message of a topic, by a real consumer."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "tests"})
        try:
            numbers = consumer.list_topics(topic, timeout=_ANSWER).topics[topic].partitions
            # Not by a subscription: to join a group takes 3 s.
            partitions = [TopicPartition(topic, number, OFFSET_BEGINNING) for number in numbers]
            consumer.assign(partitions)
            ends: Any = [consumer.get_watermark_offsets(p, timeout=_ANSWER) for p in partitions]
            return [_read(consumer) for _ in range(sum(end for _, end in ends))]
        finally:
            consumer.close()

    @contextmanager
    def away(self) -> Generator[None]:
        """While the block runs, its connections are cut and none is accepted; it forgets nothing.

        What it had taken, and not acknowledged, it takes a second time afterwards: unlike Apache
        Kafka, it does not know such a line again.
        """
        self._tell("down")
        try:
            yield
        finally:
            self._tell("up")

    def _tell(self, state: str) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(state, file=self.process.stdin, flush=True)
        assert self.process.stdout.readline().strip() == state


def _read(consumer: Consumer) -> tuple[bytes, bytes]:
    message: Any = consumer.poll(_ANSWER)  # its types leave open what a message holds
    assert message is not None
    assert message.error() is None, message.error()
    return message.key(), message.value()


@contextmanager
def mock_broker() -> Generator[Broker]:
    """A broker that ends with the block, or when its process is killed."""
    command = ends_with_us(sys.executable, "-m", "tests.tasks.generation.topics.broker")
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        try:
            yield Broker(process.stdout.readline().strip(), process)
        finally:
            process.kill()


def _serve() -> None:
    """A cluster of one broker, which standard input makes `down` or `up`."""
    # By librdkafka's own interface, rdkafka_mock.h: the setting that makes such a cluster gives no
    # hold on it. It is the library that confluent_kafka has loaded.
    maps = Path("/proc/self/maps").read_text()
    (path,) = {*re.findall(r"/\S*librdkafka\S*", maps)}
    library = ctypes.CDLL(path)
    for name in ("conf_new", "new", "mock_cluster_new"):
        getattr(library, f"rd_kafka_{name}").restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    conf = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(conf, b"log_level", b"0", None, 0)
    client = ctypes.c_void_p(library.rd_kafka_new(0, conf, None, 0))
    cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(client, 1))
    print(library.rd_kafka_mock_cluster_bootstraps(cluster).decode(), flush=True)
    for line in sys.stdin:
        state = line.strip()
        fault = getattr(library, f"rd_kafka_mock_broker_set_{state}")(cluster, 1)
        print("failed" if fault else state, flush=True)


if __name__ == "__main__":
    _serve()
