"""The pages of docs/reference that are generated say what the code says."""

import subprocess
import sys
from pathlib import Path

from docs.generate import ROOT, cli_page, settings_page, stale, variables
from tasks.settings import Settings


def test_generated_pages_are_fresh() -> None:
    assert stale() == [], "run `python docs/generate.py`"


def test_every_setting_has_a_row() -> None:
    rows = settings_page().splitlines()
    for name, field in Settings.model_fields.items():
        assert field.description, name
        (row,) = [row for row in rows if row.startswith(f"| `{variables(name, field)[0]}`")]
        assert all(f"`{variable}`" in row for variable in variables(name, field))
        assert row.count(" | ") == 2, "a cell holds the mark between cells"


def test_pages_are_the_same_on_every_machine() -> None:
    text = cli_page() + settings_page()
    assert str(Path.home()) + "/" not in text
    assert str(ROOT) not in text


def test_check_says_what_is_stale() -> None:
    program = """
import sys
from pathlib import Path
from docs import generate

generate.stale = lambda: [generate.ROOT / "docs" / "reference" / "cli.md"]
sys.exit(generate.main(["--check"]))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "docs/reference/cli.md: stale; run `python docs/generate.py`\n"
