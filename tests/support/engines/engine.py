"""A Docker engine of a test's own, which it may stop and start: beside the machine's, not it."""

import contextlib
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import psutil

from tests.support.containers import which_may_be_gone
from tests.support.engines.layers import share_image
from tests.support.needs import need_engine_of_our_own
from tests.support.platform import PATIENCE, ends_with_us, wait_until

_UNUSED = "198.18.251.1/30"  # of RFC 2544's range for tests


class Engine:
    """A second dockerd. It has a bridge of its own, which nobody uses: jobs are on the host's."""

    def __init__(self, program: str, folder: Path, bridge: str) -> None:
        self._program = program
        self._folder = folder
        self._bridge = bridge
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        """Its address, as DOCKER_HOST wants it."""
        return f"unix://{self._socket}"

    @property
    def log(self) -> Path:
        """What it says."""
        return self._folder / "dockerd.log"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ends_with_us(
                    *(self._program, "--host", self.host),
                    *("--data-root", str(self._folder / "data")),
                    *("--exec-root", str(self._in_run)),
                    *("--pidfile", str(self._pid_file)),
                    # Not --bridge=none, with which dockerd removes docker0: the other engine's.
                    *(f"--bridge={self._bridge}", "--iptables=false", "--ip-masq=false"),
                    "--ip-forward=false",
                ),
                stdout=log,
                stderr=log,
            )
        wait_until(self.answers, PATIENCE, f"the engine of the test answers: {self.log}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it. With SIGTERM it ends its containers too, with SIGKILL at its next start."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE)
            self._process = None
            # After SIGKILL it is left, and its number may be another process's at the next start.
            self._pid_file.unlink(missing_ok=True)

    def lose_power(self) -> None:
        """Kill it and all that it runs, as a host takes everything with it: no end is noted.

        What a host has in /run goes too. An engine that finds the files of its last start there
        waits for a containerd whose number another process has by now, or refuses to start.
        """
        assert self._process is not None
        self.stop(signal.SIGKILL)  # first, or it would see the others end
        wait_until(lambda: not self._kill_what_is_left(), PATIENCE, "everything it ran is gone")
        _unmount_below(self._in_run)
        shutil.rmtree(self._in_run)

    def _kill_what_is_left(self) -> bool:
        """Whether there was something."""
        # Each container is a child of a shim, whose arguments name its engine's folder.
        own = f"{self._folder}/"
        shims = [p for p in psutil.process_iter(["cmdline"]) if own in str(p.info["cmdline"])]
        for shim in shims:
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in (*shim.children(recursive=True), shim):
                    process.kill()
        return bool(shims)

    @contextmanager
    def client(self) -> Generator[docker.DockerClient]:
        """A client for it."""
        client = docker.DockerClient(base_url=self.host, timeout=300)
        try:
            yield client
        finally:
            client.close()

    def clear(self) -> None:
        """Remove containers, and networks, whose interfaces would outlive it."""
        with self.client() as its:
            wait_until(lambda: not _removed(its), what="no container is left")
            its.networks.prune()

    def answers(self) -> bool:
        """Whether it answers."""
        # Not by a client: one that finds no engine leaves its socket open, and a warning.
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(5)
            try:
                probe.connect(str(self._socket))
                probe.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b" 200 " in probe.recv(64)
            except OSError:
                return False

    def load(self, image: str) -> None:
        """Copy an image of the machine's engine."""
        ours = docker.from_env()
        try:
            data: Any = ours.images.get(image).save(named=True)
            with self.client() as its:
                its.images.load(data)  # in pieces: the whole of it is half a gigabyte
        finally:
            ours.close()

    @property
    def _in_run(self) -> Path:
        return self._folder / "exec"

    @property
    def _pid_file(self) -> Path:
        return self._folder / "docker.pid"

    @property
    def _socket(self) -> Path:
        return self._folder / "docker.sock"


@contextmanager
def own_engine(image: str) -> Generator[Engine]:
    """A running engine with an image of the machine's engine, ended and removed at the end."""
    program = need_engine_of_our_own()
    # Not under pytest's folder: the path of a socket may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="prefecture-engine-"))
    bridge = f"pfct{secrets.token_hex(4)}"  # the name of an interface may have 15 characters
    others = _bridges()
    _ip("link", "add", "name", bridge, "type", "bridge")
    _ip("address", "add", _UNUSED, "dev", bridge)
    engine = Engine(program, folder, bridge)
    try:
        shared = share_image(image, folder / "data")
        engine.start()
        if not shared:
            engine.load(image)
        assert others <= _bridges(), f"the engine of the test removed {others - _bridges()}"
        yield engine
    finally:
        if engine.answers():
            engine.clear()
        engine.stop()
        _ip("link", "delete", bridge)
        _unmount_below(folder)
        shutil.rmtree(folder)


def _removed(client: docker.DockerClient) -> int:
    """Remove every container. Returns how many there were."""
    found = client.containers.list(all=True, ignore_removed=True)
    for container in found:
        with which_may_be_gone():
            container.remove(force=True)
    return len(found)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _bridges() -> set[str]:
    return {path.parent.name for path in Path("/sys/class/net").glob("*/bridge")}


def _unmount_below(folder: Path) -> None:
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for path in reversed(mounted):
        if Path(path).is_relative_to(folder):
            subprocess.run(["umount", "--lazy", path], check=False)
