"""Who has said something new lately, as far as this host has asked; by its own clock alone."""

import time
from dataclasses import dataclass


@dataclass
class _Heard:
    said: object
    at: float
    """When it was first heard to say that."""
    patience: float
    """Seconds of silence that are nothing yet."""


class Liveness:
    """The silence of those who should say something new again and again.

    It grows only while somebody listens: between two times of listening nobody falls silent.
    """

    def __init__(self) -> None:
        self._heard: dict[str, _Heard] = {}
        self._listened = -float("inf")

    def forget(self) -> None:
        """No silence counts that began before now: nobody could be heard."""
        self._heard.clear()

    def listened(self) -> None:
        """All there was to hear has been noted."""
        self._listened = time.monotonic()

    @property
    def since_listened(self) -> float:
        """Seconds since all there was to hear was noted; infinite where it never was."""
        return time.monotonic() - self._listened

    def note(self, name: str, said: object, patience: float) -> None:
        """What somebody was heard to say; the same again is silence."""
        if name not in self._heard or self._heard[name].said != said:
            self._heard[name] = _Heard(said, time.monotonic(), patience)

    def expect(self, name: str, patience: float) -> None:
        """Somebody who was never heard of is silent once they were listened for as long."""
        if name not in self._heard:
            self.note(name, None, patience)

    def silence(self, name: str) -> float | None:
        """Seconds; None for one who was never heard of."""
        heard = self._heard.get(name)
        return None if heard is None else max(0.0, self._listened - heard.at)

    def is_silent(self, name: str, times: int = 1) -> bool:
        """Whether somebody was heard of, and now has been silent for longer than they may; or for
        so many times that."""
        silence = self.silence(name)
        return silence is not None and silence > times * self._heard[name].patience

    def any_is_silent(self, prefix: str) -> bool:
        """Whether one of those whose names begin so is."""
        return any(self.is_silent(name) for name in self._heard if name.startswith(prefix))
