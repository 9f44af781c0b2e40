"""What is installed from a wheel is what stands in the tree."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
PACKAGES = ("flows", "tasks", "deployments", "work_pools")


def test_a_wheel_holds_every_file_of_the_packages(tmp_path: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *PACKAGES],
        cwd=TREE,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    wanted = {name for name in listed.split("\0") if name and (TREE / name).is_file()}
    # A copy: the build writes beside what it reads.
    for name in [*wanted, "pyproject.toml", "README.md", "LICENSE"]:
        target = tmp_path / "tree" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(TREE / name, target)
    build = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps")
    subprocess.run([*build, "--wheel-dir", str(tmp_path), str(tmp_path / "tree")], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert wanted - {*archive.namelist()} == set()
