"""`prefecture --version`."""

import subprocess
from importlib.metadata import version

from tests.support.platform import BIN


def test_version() -> None:
    command = [str(BIN / "prefecture"), "--version"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == version("prefecture")
