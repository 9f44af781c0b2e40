"""The pages of docs/reference say what the code says."""

import ast
import re
import subprocess
import sys
from pathlib import Path

from prefect.utilities.schema_tools.validation import validate

from docs.generate import ROOT, cli_page, settings_page, stale, variables
from docs.rest_api import example, parameter_schemas, rest_api_page
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


def test_every_compute_task_has_an_example_over_rest() -> None:
    text = rest_api_page()
    for task, schema in parameter_schemas().items():
        assert f"\n### {task}\n" in text
        validate(example(schema), schema, raise_on_error=True)
    assert "sum-files" not in text, "nobody submits it"


def test_pages_are_the_same_on_every_machine() -> None:
    text = cli_page() + settings_page() + rest_api_page()
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


def test_every_threat_has_its_test() -> None:
    text = (ROOT / "docs" / "reference" / "security.md").read_text()
    rows = [line for line in text.partition("## Threats")[2].splitlines() if line[:2] == "| "][1:]
    assert len(rows) >= 19
    for row in rows:
        found = re.search(r"`(tests/\S+\.py)::(test_\w+)` \|$", row)
        assert found, f"no test: {row}"
        module = ast.parse((ROOT / found[1]).read_text())
        assert found[2] in {getattr(node, "name", None) for node in module.body}, row
