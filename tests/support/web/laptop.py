"""A user's machine: it has the address of a gateway and a token, and nothing of the server's."""

import os
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

from deployments.gateway.users.tokens import USUAL, Scope, Tokens
from tests.support.platform import BIN, PATIENCE, ends_with_us
from tests.support.web.gateway import Gateway


@dataclass(frozen=True)
class Laptop:
    """A home, a folder to work in, and what the shell has set."""

    home: Path
    variables: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def folder(self) -> Path:
        """Where its user is."""
        return self.home / "work"

    @property
    def environment(self) -> dict[str, str]:
        """All variables of its shell."""
        passed = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return passed | {"HOME": str(self.home)} | self.variables

    def with_set(self, **variables: str) -> "Laptop":
        """The same machine, with further variables."""
        return replace(self, variables=self.variables | variables)

    def run(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run `prefecture` with words, and with something on its standard input."""
        return self._run([str(BIN / "prefecture"), *words], given)

    def done(self, *words: str, given: str = "") -> str:
        """The output of a command that must succeed."""
        ran = self.run(*words, given=given)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def refused(self, *words: str, given: str = "") -> str:
        """The line of a command that must be refused."""
        ran = self.run(*words, given=given)
        assert ran.returncode == 1, ran.stdout
        assert ran.stderr.count("\n") == 1, ran.stderr
        return ran.stderr

    def python(self, program: str) -> str:
        """The output of a Python program that must succeed."""
        ran = self._run([str(BIN / "python"), "-W", "error", "-c", program])
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def started(self, *words: str) -> subprocess.Popen[str]:
        """`prefecture` with words, which runs on; its output can be read."""
        return subprocess.Popen(
            ends_with_us(str(BIN / "prefecture"), *words),
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _run(self, command: list[str], given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


def laptop_of(gateway: Gateway, home: Path, user: str, *scopes: Scope) -> Laptop:
    """The machine of a user with a new token. `home`: a folder that does not exist yet."""
    token = Tokens(gateway.home).add(user, scopes or USUAL)
    (home / "work").mkdir(parents=True)
    return Laptop(home, {"PREFECTURE_URL": gateway.url, "PREFECTURE_TOKEN": token})


def files_of(folder: Path) -> dict[str, bytes]:
    """The content of each file below a folder, by its path there."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
