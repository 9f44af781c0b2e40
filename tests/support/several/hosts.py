"""Hosts on one machine: each has a network of its own and sees its own processes alone.

The disk is that of the machine: hosts share one file system for inputs and results.
"""

import os
import random
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from ipaddress import IPv4Network
from pathlib import Path

from tests.support.platform import PATIENCE, ends_with_us, wait_until

# Addresses for the tests of network devices (RFC 2544): nobody else has them.
_NETWORKS = list(IPv4Network("198.18.0.0/15").subnets(new_prefix=30))
_INSIDE = "eth0"  # a host's own interface
_NOBODY = "02:00:00:00:00:01"  # what is sent to this interface is dropped, and nobody is told

_NEW = 0x20000 | 0x20000000 | 0x40000000  # CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET
# The host, for as long as it runs. Its first process inherits those whose parents have ended.
_BOOT = f"""
import ctypes, os, signal, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def called(failed):
    if failed:
        raise OSError(ctypes.get_errno(), "no host")
called(libc.unshare({_NEW}))
ready, tell = os.pipe()
first = os.fork()
if first:
    os.close(tell)
    os.read(ready, 1) or sys.exit("no host")
    print(first, flush=True)
    os.waitpid(first, 0)
    sys.exit()
libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
called(libc.mount(None, b"/", None, 0x4000 | 0x40000, None))  # MS_REC | MS_PRIVATE
called(libc.mount(b"proc", b"/proc", b"proc", 0, None))
os.write(tell, b"1")
while True:
    signal.pause()
"""
# Runs the command that follows on the host of a first process; passes signals and its end on.
_ENTER = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
first, command = sys.argv[1], sys.argv[2:]
for space in [os.open(f"/proc/{first}/ns/{name}", os.O_RDONLY) for name in ("net", "pid", "mnt")]:
    if libc.setns(space, 0):
        raise OSError(ctypes.get_errno(), "no such host")
    os.close(space)
child = 0
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda number, _: child and os.kill(child, number))
child = os.fork()
if not child:
    libc.prctl(1, signal.SIGKILL, 0, 0, 0)
    os.execv(command[0], command)
os.waitpid(child, 0)
"""


class Host:
    """A host, connected with this machine by a cable of two interfaces."""

    def __init__(self, folder: Path) -> None:
        network = random.choice(_NETWORKS)  # two test runs at once hardly meet
        outer, inner = network.hosts()
        self.address = str(outer)
        """The address of this machine, as the host reaches it."""
        self._own = str(inner)
        self._outside = f"pf{int(network.network_address) >> 2:x}"
        self._log = folder / "host.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ends_with_us(sys.executable, "-c", _BOOT), stdout=subprocess.PIPE, stderr=log
            )
        assert self._process.stdout
        self._first = self._process.stdout.readline().decode().strip()
        assert self._first, self._log.read_text()
        try:
            self._connect()
        except BaseException:
            self.stop()
            raise

    def command(self, *words: str) -> list[str]:
        """A command that runs another one on this host."""
        return [sys.executable, "-c", _ENTER, self._first, *words]

    @contextmanager
    def cut_off(self) -> Generator[None]:
        """While the block runs, all packets from and to the host are dropped."""
        self._address_cable(_NOBODY, _NOBODY)
        try:
            yield
        finally:
            self._address_cable(*self._hardware)

    def stop(self) -> None:
        """Kill all that runs on it."""
        with suppress(ProcessLookupError):
            os.kill(int(self._first or self._process.pid), 9)
        assert self._process.stdout
        self._process.stdout.close()
        self._process.wait(PATIENCE)

    def _connect(self) -> None:
        peer = ["peer", "name", _INSIDE, "netns", self._first]
        _run("ip", "link", "add", self._outside, "type", "veth", *peer)
        _run("ip", "address", "add", f"{self.address}/30", "dev", self._outside)
        _run("ip", "link", "set", self._outside, "up")
        self._run_inside("ip", "link", "set", "lo", "up")
        self._run_inside("ip", "address", "add", f"{self._own}/30", "dev", _INSIDE)
        self._run_inside("ip", "link", "set", _INSIDE, "up")
        show = f"/sys/class/net/{self._outside}/address"
        outer = Path(show).read_text().strip()
        inner = self._run_inside("ip", "-brief", "link", "show", _INSIDE).split()[2]
        self._hardware = outer, inner
        self._address_cable(outer, inner)
        wait_until(self._is_connected, what=f"{self._own} answers")

    def _address_cable(self, outer: str, inner: str) -> None:
        """Say to which interface each side sends. Neither asks (ARP), so none learns of a cut."""
        neighbour = ["ip", "neighbour", "replace"]
        _run(*neighbour, self._own, "lladdr", inner, "dev", self._outside, "nud", "permanent")
        inside = [self.address, "lladdr", outer, "dev", _INSIDE, "nud", "permanent"]
        self._run_inside(*neighbour, *inside)

    def _is_connected(self) -> bool:
        state = Path(f"/sys/class/net/{self._outside}/operstate").read_text().strip()
        return state == "up"

    def _run_inside(self, *words: str) -> str:
        return _run("nsenter", "--target", self._first, "--net", *words)


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout
