"""Jobs whose containers of the user's run until a test has done its harm."""

from typing import Any
from uuid import UUID

from tests.chaos.harness.drill import Drill

_GENERATES = "import time\nwhile True: print('{}', flush=True); time.sleep(.1)"


def run_until_opened(drill: Drill, image: str, **more: Any) -> UUID:
    """A job of run-container, which ends well once `open_gate` was called."""
    gate = drill.platform.inputs / drill.name
    gate.mkdir()
    (gate / "seed").touch()  # a source holds a file at least
    script = "until [ -e /input/open ]; do sleep 0.1; done; echo written > /output/output.txt"
    command = ["sh", "-c", script]
    own: dict[str, Any] = {"image": image, "command": command, "inputs": drill.name}
    (job,) = drill.submit(1, task="run-container", **own, memory="64m", **more)
    return job


def open_gate(drill: Drill) -> None:
    """Let what waits end."""
    (drill.platform.inputs / drill.name / "open").touch()


def generate_for(drill: Drill, image: str, duration: int) -> UUID:
    """A job of generate-data, to a topic that is called as the drill."""
    own: dict[str, Any] = {"image": image, "command": ["python3", "-c", _GENERATES]}
    own |= {"topic": drill.name, "duration": duration, "memory": "64m"}
    (job,) = drill.submit(1, task="generate-data", **own)
    return job
