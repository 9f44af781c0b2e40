"""Topics in Kafka, against a mock broker over TCP with the real client and a real consumer."""

import threading
import time
from functools import partial

import pytest

from tasks.errors import TopicUnavailable
from tasks.generation.topics.kafka import KafkaTopic
from tests.support.platform import free_port, wait_until
from tests.support.session.on_time import OnTime
from tests.tasks.generation.topics.broker import Broker, mock_broker

PATIENCE = 5.0  # seconds in which a broker of this machine takes a line, whatever else it does


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
        found = broker.read("clicks")
        for source in range(3):
            own = [value for key, value in found if key == str(source).encode()]
            assert own == [f'{{"n": {n}}}'.encode() for n in range(2000)]
        assert topic.environment["KAFKA_BOOTSTRAP_SERVERS"] == broker.address


def test_an_unreachable_broker_is_reported(on_time: OnTime) -> None:
    began = time.monotonic()
    with pytest.raises(TopicUnavailable, match=r"no broker answers: .*check the address"):
        KafkaTopic(f"127.0.0.1:{free_port()}", "clicks")
    on_time(time.monotonic() - began < 12, began)


def test_a_broker_that_is_lost_holds_lines_back_and_then_is_reported(on_time: OnTime) -> None:
    with mock_broker() as broker:
        topic = KafkaTopic(broker.address, "clicks", stall_timeout=2.0, buffer=1024)
        topic.deliver(0, b'{"n": 0}')
        topic.close()
        broker.process.kill()
        began = time.monotonic()
        sent = 0
        with pytest.raises(TopicUnavailable, match=r"no line was acknowledged for 2 s, .* wait"):
            while True:
                topic.deliver(0, b'"' + b"x" * 10_000 + b'"')
                sent += 1
        took = time.monotonic() - began
        assert took > 1.9
        on_time(took < 10, took)
        assert sent <= 1024 * 1024 / 10_000 + 1, "it buffers within its bound"
        assert topic.delivered == 1


def test_a_broker_that_comes_back_gets_what_waits() -> None:
    with mock_broker() as broker:
        topic = KafkaTopic(broker.address, "clicks", stall_timeout=600.0, buffer=64)
        lines = [f'{{"n": {n}, "text": "{"x" * 500}"}}'.encode() for n in range(1000)]

        def send() -> None:
            for line in lines:
                topic.deliver(0, line)

        sending = threading.Thread(target=send)
        with broker.away():
            sending.start()
            wait_until(lambda: topic.pending > 64 * 1024 / 600, what="the buffer is full")
            waiting = topic.pending
            sending.join(1.0)
            assert sending.is_alive(), "who prints has to wait"
            assert (topic.delivered, topic.pending) == (0, waiting)
        sending.join(240)
        topic.close()
        assert (topic.delivered, topic.pending) == (1000, 0)
        assert [value for _, value in broker.read("clicks")] == lines


def test_a_job_that_is_ended_does_not_wait_for_a_broker_that_is_away(on_time: OnTime) -> None:
    with mock_broker() as broker:
        topic = KafkaTopic(broker.address, "clicks", buffer=64)
        said: list[TopicUnavailable] = []

        def send() -> None:
            try:
                while True:
                    topic.deliver(0, b'"' + b"x" * 1000 + b'"')
            except TopicUnavailable as error:
                said.append(error)

        sending = threading.Thread(target=send)
        with broker.away():
            sending.start()
            wait_until(lambda: topic.pending > 50, what="the buffer is full")
            began = time.monotonic()
            topic.hurry()
            sending.join(240)
            with pytest.raises(
                TopicUnavailable, match=r"the job was stopped while \d+ lines waited"
            ):
                topic.close()
            on_time(time.monotonic() - began < 4, began)
        assert "the job was stopped" in str(said[0])


def test_a_generator_that_is_slow_is_not_taken_for_a_broker_that_is_away() -> None:
    with mock_broker() as broker:
        topic = KafkaTopic(broker.address, "clicks", stall_timeout=PATIENCE)
        for number in (1, 2):
            topic.deliver(0, b"{}")
            wait_until(partial(has_taken, broker, number), what="the broker has taken it")
            now = time.monotonic()
            wait_until(partial(passed, now + 1.1 * PATIENCE), what="it prints nothing for a while")
        topic.close()
        assert (topic.delivered, topic.pending) == (2, 0)


def has_taken(broker: Broker, number: int) -> bool:
    return len(broker.read("clicks")) == number


def passed(moment: float) -> bool:
    return time.monotonic() > moment
