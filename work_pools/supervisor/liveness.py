"""Detection of silent agents and workers from changes in their reports, by this host's clock."""

import time
from dataclasses import dataclass


@dataclass
class _Report:
    report: object
    at: float
    """When this report was first read, by time.monotonic."""
    timeout: float
    """Seconds without a new report after which it is silent."""


class Liveness:
    """How long each reporter has been silent: its report is read and has not changed.

    Silence is counted up to the last refresh, so it does not grow while reports are not read.
    """

    def __init__(self) -> None:
        self._reports: dict[str, _Report] = {}
        self._refreshed = -float("inf")

    def forget(self) -> None:
        """Restart all silences at zero: reports could not be read."""
        self._reports.clear()

    def refreshed(self) -> None:
        """Record that all reports have just been read."""
        self._refreshed = time.monotonic()

    @property
    def since_refreshed(self) -> float:
        """Seconds since all reports were read; infinite where they never were."""
        return time.monotonic() - self._refreshed

    def note(self, name: str, report: object, timeout: float) -> None:
        """Record a report that was read. An unchanged report continues the silence."""
        if name not in self._reports or self._reports[name].report != report:
            self._reports[name] = _Report(report, time.monotonic(), timeout)

    def expect(self, name: str, timeout: float) -> None:
        """Begin the silence of a reporter that has no report yet."""
        if name not in self._reports:
            self.note(name, None, timeout)

    def silence(self, name: str) -> float | None:
        """Seconds of silence; None for an unknown name."""
        known = self._reports.get(name)
        return None if known is None else max(0.0, self._refreshed - known.at)

    def is_silent(self, name: str, times: int = 1) -> bool:
        """Whether a known reporter has been silent for longer than `times` its timeout."""
        silence = self.silence(name)
        return silence is not None and silence > times * self._reports[name].timeout

    def any_is_silent(self, prefix: str) -> bool:
        """Whether any reporter is silent whose name begins with `prefix`."""
        return any(self.is_silent(name) for name in self._reports if name.startswith(prefix))
