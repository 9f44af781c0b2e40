"""What the image is built with is all that a job needs: compiling takes a second a loop."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.tasks.averages.test_sums import WRITERS

# In a process of its own: elsewhere other tests have called the loops.
JOB = """
import sys
from pathlib import Path
from tasks.averages.reading import decimals, exact, warm
from tests.tasks.averages.test_sums import average

loops = [exact.two_sums, exact.two_sum, exact.divide, decimals._parse]
warm.main()
known = [set(loop.signatures) for loop in loops]
assert all(known)
for refuse in (True, False):
    for folder in sorted(Path(sys.argv[1]).iterdir()):
        average(folder, refuse=refuse)
for loop, before in zip(loops, known):
    print(loop.__name__, *(set(loop.signatures) - before))
"""


def test_nothing_is_compiled_for_any_format(tmp_path: Path) -> None:
    for format, write in WRITERS.items():
        (tmp_path / format).mkdir()
        for number, value in enumerate((1e100, 1.0, 1e-100)):
            write(tmp_path / format / f"{number}.{format}", np.full(10, value))
    command = [sys.executable, "-c", JOB, str(tmp_path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.split() == ["two_sums", "two_sum", "divide", "_parse"]
