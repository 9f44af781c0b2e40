"""Measurement of a container's peak memory and CPU time."""

import threading
from typing import Any, cast

import docker
import requests
import urllib3
from docker.errors import DockerException

from tasks.containers.engine import api

_NANOSECONDS = 1_000_000_000


class Usage:
    """Reads the engine's measurements, one a second, in its own thread until the exit."""

    def __init__(self, client: docker.DockerClient, container: str) -> None:
        self.peak_memory = 0
        """Bytes."""
        self.cpu_seconds = 0.0
        self._client = client
        self._container = container
        threading.Thread(target=self._read, daemon=True, name="usage").start()

    def _read(self) -> None:
        try:
            for sample in api(self._client).stats(self._container, decode=True, stream=True):
                self._take(cast(dict[str, Any], sample))
        except (
            DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError,
            ValueError,
        ):  # fmt: skip
            return  # the container is gone; the last numbers stay

    def _take(self, sample: dict[str, Any]) -> None:
        memory: dict[str, Any] = sample.get("memory_stats") or {}
        used = int(memory.get("max_usage") or memory.get("usage") or 0)  # cgroup 1, cgroup 2
        self.peak_memory = max(self.peak_memory, used)
        cpu: dict[str, Any] = sample.get("cpu_stats") or {}
        spent = int(cpu.get("cpu_usage", {}).get("total_usage") or 0) / _NANOSECONDS
        self.cpu_seconds = max(self.cpu_seconds, spent)
