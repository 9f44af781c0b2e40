"""A program ends after one signal, whatever it waits for."""

import signal
import subprocess
import sys

import pytest

from tests.support.platform import PATIENCE, ends_with_us

SHORT = """
import sys, time
import tasks.prefect_api.ending as ending
ending.ENDS_WITHIN = 1.0
"""
OWN = f"""{SHORT}
ending.end_in_time("program")
print("told", flush=True)
time.sleep(3600)
"""
OF_PREFECT = f"""{SHORT}
from deployments.local.bounded import main
sys.argv[1:] = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"]
sys.exit(main())
"""


@pytest.mark.parametrize("program", [OWN, OF_PREFECT], ids=["own", "of Prefect"])
def test_ends(program: str) -> None:
    command = ends_with_us(sys.executable, "-c", program)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        if running.stdout.readline() == "ready\n":
            running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE) == 0
