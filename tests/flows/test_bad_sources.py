"""Sources that only the job can find wanting, and its one line for each.

tests/integration/test_bad_input.py has whole jobs of each kind.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from flows.compress_images import compress_images
from flows.find_primes import find_primes
from tasks.errors import InvalidPayload, JobError
from tasks.locally import run_locally
from tests.support.images import make_album, make_traps


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An inputs root with everything that is asked for."""
    folder = tmp_path_factory.mktemp("bad")
    make_album(folder / "inputs" / "album")
    make_traps(folder / "inputs", folder / "outside")
    return folder / "inputs"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothing", "source 'nothing' names no file under the inputs root"),
        ("nothing/*.jpg", "source 'nothing/*.jpg' names no file under the inputs root"),
        ("empty", "source 'empty' names no file under the inputs root"),
        ("texts", "the source holds no readable image: note.jpg: "),
        ("album/../../outside", "leaves the inputs root: name a path inside it, without '..'"),
        ("linked", "out.jpg is a symbolic link out of the inputs root"),
        ("linked/out.jpg", "out.jpg is a symbolic link out of the inputs root"),
        ("tree", "out is a symbolic link "),
        ("tree/out", "tree/out is a symbolic link out of the inputs root"),
        ("tree/out/*.jpg", "tree/out is a symbolic link out of the inputs root"),
        ("s3://bucket/photos/", "s3:// addresses need credentials"),
    ],
)
def test_a_source(tmp_path: Path, inputs: Path, source: str, message: str) -> None:
    with pytest.raises(JobError) as refused:
        run_locally(compress_images, {"source": source, "ratio": 0.5}, tmp_path, inputs=inputs)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert files(tmp_path) == []


def test_a_results_directory(tmp_path: Path) -> None:
    with pytest.raises(InvalidPayload, match=r"^results_directory: .*longer than 255 bytes") as no:
        run_locally(find_primes, {"upper_bound": 10}, tmp_path, results_directory="é" * 128)
    assert "\n" not in str(no.value)
    assert files(tmp_path) == []


def files(folder: Path) -> Sequence[Path]:
    """Every file in a folder."""
    return [path for path in folder.rglob("*") if not path.is_dir()]
