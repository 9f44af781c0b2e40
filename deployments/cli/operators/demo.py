"""Commands that show Prefecture at work, on photographs that they make."""

import asyncio
from pathlib import Path

from deployments.cli.output.console import out, say
from deployments.demo.photos import make_photos
from deployments.demo.run import demo as run_demo
from deployments.local.up import until_stopped
from tasks.contracts import Pool
from tasks.errors import OperatorError
from tasks.settings import get_settings

_SAMPLES = 6  # photographs


def demo(*, pool: Pool | None = None, inputs: Path | None = None) -> None:
    """Run real jobs of every compute task on all three queues, watch them, and stop everything.

    `make demo` runs this command. With the process pool, tasks that start containers are left out.

    Example: `prefecture demo --pool process`

    Parameters
    ----------
    pool
        The pool. Default: docker where an engine answers.
    inputs
        A folder of your own photographs.
    """

    async def run() -> bool:
        return await until_stopped(run_demo(pool, inputs, out), say)

    if not asyncio.run(run()):
        raise OperatorError("the demo was stopped")


def samples(folder: str = "photos") -> None:
    """Put sample photographs into a folder of the inputs root, for a first job.

    An existing folder is left as it is.

    Example: `prefecture samples`

    Parameters
    ----------
    folder
        The folder's name under the inputs root.
    """
    inputs = get_settings().inputs
    place = inputs / folder
    if not place.resolve().is_relative_to(inputs.resolve()):
        raise OperatorError(f"{folder} leads out of the inputs root: name a folder in {inputs}")
    if place.exists():
        say(f"{place} is there already")
        return
    make_photos(place, _SAMPLES, broken=False)
    say(f"{_SAMPLES} photographs in {place}")
