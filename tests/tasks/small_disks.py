"""A disk that is full or read-only, for real: a small tmpfs in a mount namespace of its own."""

import subprocess
import sys
from pathlib import Path

from tests.support.needs import need_namespaces

_ROOT = Path(__file__).parents[2]
_MOUNT = 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"'


def on_small_disk(root: Path, options: str, module: str, *arguments: object) -> str:
    """What `python -m module` prints that sees a tmpfs with these mount options at `root`."""
    need_namespaces()
    root.mkdir()
    # A user namespace makes this work without root as well.
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", _MOUNT, "sh"]
    python = [sys.executable, "-m", module, *map(str, arguments)]
    ended = subprocess.run(
        [*unshare, options, str(root), *python],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stderr
    assert list(root.iterdir()) == [], "the disk was not a disk of its own"
    return ended.stdout.strip()
