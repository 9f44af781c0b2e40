"""Topics in Kafka, against a mock broker over TCP with the real client and a real consumer."""

import threading
import time

import pytest

from tasks.errors import TopicUnavailable
from tasks.topics.kafka import KafkaTopic
from tests.support.platform import free_port
from tests.tasks.topics.broker import mock_broker


def test_lines_arrive_in_order_per_container_and_are_counted() -> None:
    with mock_broker() as broker:
        topic = KafkaTopic(broker.address, "clicks")

        def send(source: int) -> None:
            for number in range(2000):
                topic.deliver(source, f'{{"n": {number}}}'.encode())

        threads = [threading.Thread(target=send, args=(source,)) for source in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        topic.close()
        assert (topic.delivered, topic.pending) == (6000, 0)
        found = broker.read("clicks", 6000)
        for source in range(3):
            own = [value for key, value in found if key == str(source).encode()]
            assert own == [f'{{"n": {n}}}'.encode() for n in range(2000)]
        assert topic.environment["KAFKA_BOOTSTRAP_SERVERS"] == broker.address


def test_an_unreachable_broker_is_told_within_ten_seconds() -> None:
    began = time.monotonic()
    with pytest.raises(TopicUnavailable, match=r"no broker answers: .*check the address"):
        KafkaTopic(f"127.0.0.1:{free_port()}", "clicks")
    assert time.monotonic() - began < 12


def test_a_broker_that_is_lost_holds_lines_back_and_then_is_told() -> None:
    with mock_broker() as broker:
        topic = KafkaTopic(broker.address, "clicks", patience=2.0, buffer=1024)
        topic.deliver(0, b'{"n": 0}')
        topic.close()
        broker.process.kill()
        began = time.monotonic()
        sent = 0
        with pytest.raises(TopicUnavailable, match=r"it has taken nothing for 2 s, and .* wait"):
            while True:
                topic.deliver(0, b'"' + b"x" * 10_000 + b'"')
                sent += 1
        assert 1.9 < time.monotonic() - began < 10
        assert sent <= 1024 * 1024 / 10_000 + 1, "it buffers within its bound"
        assert topic.delivered == 1
