"""Hosts on one machine: each has a network of its own and sees its own processes alone.

The disk is that of the machine: hosts share one file system for inputs and results.
"""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import IPv4Network
from pathlib import Path

from tests.support.platform import PATIENCE, ends_with_us, wait_until

# Addresses for the tests of network devices (RFC 2544): nobody else has them.
_NETWORKS = list(IPv4Network("198.18.0.0/15").subnets(new_prefix=30))
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


class Cable:
    """Two interfaces, one of this machine and one of a host, whose first process is `first`."""

    def __init__(self, first: str, name: str) -> None:
        network = random.choice(_NETWORKS)  # two test runs at once hardly meet
        outer, inner = network.hosts()
        self.here = str(outer)
        """The address of this machine, as the host reaches it."""
        self.there = str(inner)
        """The address of the host."""
        self._outside = f"pf{int(network.network_address) >> 2:x}"
        self._first, self._inside = first, name
        peer = ["peer", "name", name, "netns", first]
        _run("ip", "link", "add", self._outside, "type", "veth", *peer)
        _run("ip", "address", "add", f"{self.here}/30", "dev", self._outside)
        _run("ip", "link", "set", self._outside, "up")
        self._run_inside("ip", "link", "set", "lo", "up")
        self._run_inside("ip", "address", "add", f"{self.there}/30", "dev", name)
        self._run_inside("ip", "link", "set", name, "up")
        self._to_here = Path(f"/sys/class/net/{self._outside}/address").read_text().strip()
        self._to_there = self._run_inside("ip", "-brief", "link", "show", name).split()[2]
        self._mend()
        wait_until(self._is_connected, what=f"{self.there} answers")

    @contextmanager
    def cut(self, *, to: bool = True, back: bool = True) -> Generator[None]:
        """While the block runs, packets to the host, and back from it, are dropped."""
        self._address(self._to_here if not back else _NOBODY, self._to_there if not to else _NOBODY)
        try:
            yield
        finally:
            self._mend()

    def _mend(self) -> None:
        self._address(self._to_here, self._to_there)

    def _address(self, to_here: str, to_there: str) -> None:
        """Say to which interface each side sends. Neither asks (ARP), so none learns of a cut."""
        neighbour = ["ip", "neighbour", "replace"]
        _run(*neighbour, self.there, "lladdr", to_there, "dev", self._outside, "nud", "permanent")
        inside = [self.here, "lladdr", to_here, "dev", self._inside, "nud", "permanent"]
        self._run_inside(*neighbour, *inside)

    def _is_connected(self) -> bool:
        state = Path(f"/sys/class/net/{self._outside}/operstate").read_text().strip()
        return state == "up"

    def _run_inside(self, *words: str) -> str:
        return _run("nsenter", "--target", self._first, "--net", *words)


class Host:
    """A host, connected with this machine by one cable or several."""

    def __init__(self, folder: Path, cables: Sequence[str] = ("eth0",)) -> None:
        """`cables`: the names of its interfaces."""
        self._log = folder / "host.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ends_with_us(sys.executable, "-c", _BOOT), stdout=subprocess.PIPE, stderr=log
            )
        assert self._process.stdout
        self._first = self._process.stdout.readline().decode().strip()
        assert self._first, self._log.read_text()
        try:
            self.cables = {name: Cable(self._first, name) for name in cables}
        except BaseException:
            self.stop()
            raise

    @property
    def cable(self) -> Cable:
        """Its first cable."""
        return next(iter(self.cables.values()))

    @property
    def address(self) -> str:
        """The address of this machine, as the host reaches it by its first cable."""
        return self.cable.here

    def command(self, *words: str) -> list[str]:
        """A command that runs another one on this host."""
        return [sys.executable, "-c", _ENTER, self._first, *words]

    def kill(self) -> None:
        """Kill all that runs on it, as a loss of power does. It can be used again."""
        # All processes that it sees but itself and the first one.
        end = f"import os; os.kill(-1, {int(signal.SIGKILL)})"
        _run(*self.command(sys.executable, "-c", end))

    def stop(self) -> None:
        """Kill all that runs on it, and remove it."""
        with suppress(ProcessLookupError):
            os.kill(int(self._first or self._process.pid), 9)
        assert self._process.stdout
        self._process.stdout.close()
        self._process.wait(PATIENCE)


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout
