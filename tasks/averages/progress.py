"""How far the reading of files is, in numbers."""

from dataclasses import dataclass, field
from threading import Lock

from tasks.averages.read_as import ReadAs


@dataclass
class ReadProgress:
    """How far it is; read by others while threads write it, each in its turn."""

    files: int
    """All there are."""
    files_done: int = 0
    """Read to the end of the accumulator."""
    bytes: int = 0
    """Of the files opened so far."""
    numbers: int = 0
    """Read so far, of all files."""
    length: int = 0
    """Of a file, in numbers; as far as the rounds so far have come, until the last."""
    before: int = 0
    """The same without the last of those rounds."""
    rounds: int = 1
    """One for each accumulator so far."""
    expected: int = 0
    """Numbers of each file in this round; 0 until the first was read."""
    missing: int = 0
    """Places without a finite number, that were skipped."""
    comments: int = 0
    """Lines of text, or ends of them, that were passed over."""
    read_as: list[ReadAs] = field(default_factory=list[ReadAs])
    """How the files were read."""
    _turn: Lock = field(default_factory=Lock, repr=False)

    def opened(self, bytes: int) -> None:
        """A file of that size was opened for the first time."""
        with self._turn:
            self.bytes += bytes

    def read(self, numbers: int) -> None:
        """So many numbers more of a file were read."""
        with self._turn:
            self.numbers += numbers

    def skipped(self, numbers: int) -> None:
        """So many places of a file had no finite number."""
        with self._turn:
            self.missing += numbers

    def finished(self, numbers: int) -> None:
        """A file has given all its numbers to this round."""
        with self._turn:
            self.files_done += 1
            self.expected = self.expected or numbers

    def fraction(self) -> float:
        """The share of this round that is done."""
        done = self.numbers - self.before * self.files
        return min(done / (self.expected * self.files), 1.0) if self.expected else 0.0

    def text(self) -> str:
        """How far it is in a few words."""
        more = f", round {self.rounds}" if self.rounds > 1 else ""
        return f"{self.files_done:,} of {self.files:,} files{more}"
