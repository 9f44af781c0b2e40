"""Counters of the files and numbers read so far."""

from dataclasses import dataclass, field
from threading import Lock

from tasks.averages.read_as import ReadAs


@dataclass
class ReadProgress:
    """Counters that threads update under a lock while others read them."""

    files: int
    """Number of files to read."""
    files_done: int = 0
    """Files read up to the end of this round's range of indices."""
    bytes: int = 0
    """Size of the files opened so far."""
    numbers: int = 0
    """Numbers read so far, in all files."""
    length: int = 0
    """Numbers per file seen up to the current round."""
    before: int = 0
    """Numbers per file seen before the current round."""
    rounds: int = 1
    """Rounds so far: each reads one range of indices from all files."""
    expected: int = 0
    """Numbers of each file in this round; 0 until the first file is read."""
    missing: int = 0
    """Places without a finite number, which were skipped."""
    comments: int = 0
    """Comments in text, whole lines or ends of lines, which were skipped."""
    read_as: list[ReadAs] = field(default_factory=list[ReadAs])
    """Layouts of the files, each with its number of files."""
    _lock: Lock = field(default_factory=Lock, repr=False)

    def opened(self, bytes: int) -> None:
        """Count a file of `bytes` bytes that is opened for the first time."""
        with self._lock:
            self.bytes += bytes

    def read(self, numbers: int) -> None:
        """Count numbers read."""
        with self._lock:
            self.numbers += numbers

    def skipped(self, numbers: int) -> None:
        """Count places without a finite number."""
        with self._lock:
            self.missing += numbers

    def finished(self, numbers: int) -> None:
        """Count a file that was read up to this round's end, and the numbers read in it."""
        with self._lock:
            self.files_done += 1
            self.expected = self.expected or numbers

    def fraction(self) -> float:
        """The share of this round that is done, 0 to 1."""
        done = self.numbers - self.before * self.files
        return min(done / (self.expected * self.files), 1.0) if self.expected else 0.0

    def text(self) -> str:
        """The progress in a few words."""
        more = f", round {self.rounds}" if self.rounds > 1 else ""
        return f"{self.files_done:,} of {self.files:,} files{more}"
