"""Programs that a test starts, kills and starts again."""

import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.support.platform import PATIENCE, ends_with_us, wait_until


class Part:
    """A program with a log."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],
        folder: Path,
        is_ready: Callable[[], bool] = lambda: True,
        ends_by: signal.Signals = signal.SIGTERM,
    ) -> None:
        """`ends_by`: what ends it in order, soon, also while clients are connected."""
        self.name = name
        self.log = folder / f"{name}.log"
        self._command, self._env = command, env
        self._is_ready = is_ready
        self._ends_by = ends_by
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                ends_with_us(*self._command), env=self._env, stdout=output, stderr=output, cwd="/"
            )

    def wait(self) -> None:
        """Wait until it is ready."""
        wait_until(lambda: self._is_ready() or not self.runs, what=f"{self.name}, see {self.log}")
        assert self.runs, self.end_of_log()

    @property
    def runs(self) -> bool:
        """Whether it runs now."""
        return self._process is not None and self._process.poll() is None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """Its process, the last one."""
        assert self._process is not None
        return self._process

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it in order. Raises AssertionError where it does not, and kills it then."""
        if not self.runs:
            return
        self.process.send_signal(self._ends_by)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self.name} did not end: {self.end_of_log()}") from None

    def end_of_log(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-40:])
