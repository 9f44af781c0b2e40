"""Programs of the host beside a Docker worker, which its jobs need to their end."""

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

import docker

from tasks.errors import PrefectureError, in_short
from work_pools.worker.containers.standby_container import ENGINE_ERRORS, ENGINE_TIMEOUT

_LOOK = 5.0  # seconds between two looks at a program
_START = 300.0  # seconds until it has said its line
_END = 10.0  # seconds
_WORKER = "io.prefect.worker-name"
_log = logging.getLogger(__name__)


class Companion:
    """A program that says a line once it is there.

    `name`: for people; `listens`: whether it reads lines, those of `tell`.
    """

    def __init__(
        self,
        module: str,
        name: str,
        environment: Mapping[str, str] | None = None,
        *,
        listens: bool = False,
    ) -> None:
        self._module = module
        self._name = name
        self._environment = environment
        self._listens = listens
        self._process: subprocess.Popen[str] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the program was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, arguments: Sequence[str]) -> str | None:
        """Start the program, and return its line; None where it runs already.

        Raises OSError where it ends without one, or says none for minutes.
        """
        if self.is_running:
            return None
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module, *arguments],
            env=self._environment,
            stdin=subprocess.PIPE if self._listens else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            # A signal from the terminal is for the worker: its jobs need the program to the end.
            start_new_session=True,
        )
        assert self._process.stdout is not None
        too_late = threading.Timer(_START, self._process.kill)
        too_late.start()
        try:
            with self._process.stdout as said:
                line = said.readline()
        finally:
            too_late.cancel()
        if not line:
            raise OSError(f"no {self._name}: the line above says why")
        return line

    def tell(self, line: str) -> None:
        """Have the program read a line. Raises OSError where it does not run."""
        if self._process is None or self._process.stdin is None:
            raise OSError(f"no {self._name}")
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def end(self) -> None:
        """End the program."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_END)
            if self._process.stdin is not None:
                self._process.stdin.close()

    def end_unless_needed(self, worker: str) -> None:
        """End the program, unless jobs of a worker run: then it ends by itself after them."""
        if self._process is not None and not self._is_needed(worker):
            self.end()

    def _is_needed(self, worker: str) -> bool:
        """Whether containers of a worker run; True where the engine does not say."""
        client = docker.from_env(timeout=ENGINE_TIMEOUT)
        try:
            return bool(client.containers.list(filters={"label": f"{_WORKER}={worker}"}))
        except Exception as error:  # noqa: BLE001  # then it ends by itself
            _log.info("the %s is left to end by itself: %s", self._name, in_short(error))
            return True
        finally:
            client.close()


async def keep(start: Callable[[], None]) -> None:
    """Call `start`, which starts a program that has ended, every few seconds until cancelled."""
    while True:
        await asyncio.sleep(_LOOK)
        try:
            await asyncio.to_thread(start)
        except (*ENGINE_ERRORS, PrefectureError) as error:
            _log.warning("%s", in_short(error))
