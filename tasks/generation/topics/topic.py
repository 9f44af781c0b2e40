"""What a topic promises, wherever it is kept; and the line that opens one."""

from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from tasks.contracts import KAFKA_SCHEME


class Topic(Protocol):
    """Takes lines, at least once each, in order per source. Used by many threads at once."""

    @property
    def place(self) -> str:
        """Where it is, for people."""
        ...

    @property
    def environment(self) -> dict[str, str]:
        """What a generator is told of it."""
        ...

    @property
    def delivered(self) -> int:
        """Lines that it has for certain."""
        ...

    @property
    def pending(self) -> int:
        """Lines that it was given and that are on their way."""
        ...

    def deliver(self, source: int, line: bytes) -> None:
        """Take a line, without its end, of a container. Waits while it has no room.

        Raises TopicUnavailable where it takes nothing any more.
        """
        ...

    def hurry(self) -> None:
        """Wait for nothing any more that does not come at once: the job is being ended."""
        ...

    def close(self) -> None:
        """Bring everything to its place. Raises TopicUnavailable where that does not succeed."""
        ...


def open_topic(name: str, folder: Path, writer: str) -> Topic:
    """A topic by its name or kafka:// address. `folder`: of all topics that are folders; `writer`:
    whoever writes now, in names of files.

    Raises TopicUnavailable where it does not answer.
    """
    if name.startswith(KAFKA_SCHEME):
        # Loads librdkafka, which others need not have.
        from tasks.generation.topics.kafka import KafkaTopic

        address = urlsplit(name)
        return KafkaTopic(address.netloc, address.path.removeprefix("/"))
    from tasks.generation.topics.folder import FolderTopic

    return FolderTopic(folder / name, writer)
