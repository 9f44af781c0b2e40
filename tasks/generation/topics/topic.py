"""The interface of topics, and the function that opens one."""

from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from tasks.contracts import KAFKA_SCHEME


class Topic(Protocol):
    """Receives lines: each at least once, in order for each source. Thread-safe."""

    @property
    def place(self) -> str:
        """Its address or folder, for people."""
        ...

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that tell a generator of the topic."""
        ...

    @property
    def delivered(self) -> int:
        """Number of lines that are stored for certain."""
        ...

    @property
    def pending(self) -> int:
        """Number of lines that were given to it and are not yet stored for certain."""
        ...

    def deliver(self, source: int, line: bytes) -> None:
        """Deliver a line, without its line break, of container `source`. Blocks while it is full.

        Raises TopicUnavailable where it accepts no more lines.
        """
        ...

    def hurry(self) -> None:
        """Give up soon on lines that wait: the job is being stopped."""
        ...

    def close(self) -> None:
        """Store all lines for certain. Raises TopicUnavailable where that fails."""
        ...


def open_topic(name: str, folder: Path, writer: str) -> Topic:
    """Open a topic by its name or kafka:// address.

    `folder`: the parent of all topics that are folders. `writer`: first part of the names of files
    there, different for each attempt. Raises TopicUnavailable where it cannot be opened.
    """
    if name.startswith(KAFKA_SCHEME):
        # Imported only here: librdkafka may not be installed.
        from tasks.generation.topics.kafka import KafkaTopic

        address = urlsplit(name)
        return KafkaTopic(address.netloc, address.path.removeprefix("/"))
    from tasks.generation.topics.folder import FolderTopic

    return FolderTopic(folder / name, writer)
