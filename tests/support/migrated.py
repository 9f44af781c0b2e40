"""A database as Prefect's server makes it at its first start, which takes it 8 s, made once.

Most tests want a server of their own. That one can start from nothing is seen by those of the demo,
which start it as a user does.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path


def put_database(home: Path) -> None:
    """Have the first start in a home find its tables made; a home with a database keeps it."""
    database = home / "prefect" / "prefect.db"
    if not database.exists():
        database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copyfile(_migrated(), database)


def _migrated() -> Path:
    """Prefect's tables of the installed version, with nothing in them."""
    folder = Path(tempfile.gettempdir()) / f"prefecture-tests-{os.getuid()}"
    folder.mkdir(exist_ok=True, mode=0o700)
    made = folder / f"prefect-{version('prefect')}.db"
    if not made.exists():
        with tempfile.TemporaryDirectory(dir=folder) as place:
            own = {
                "PREFECT_HOME": place,
                "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{place}/new.db",
                "DO_NOT_TRACK": "1",
            }
            prefect = str(Path(sys.executable).with_name("prefect"))
            command = (prefect, "server", "database", "upgrade", "--yes")
            subprocess.run(command, env=os.environ | own, check=True, capture_output=True)
            # Whoever else makes one meanwhile has made the same.
            Path(place, "new.db").replace(made)
    return made
