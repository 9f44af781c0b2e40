"""Every command: in one of two groups, with an example that it understands."""

import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from cyclopts import App

from deployments.cli.main import make_app

EXAMPLE = re.compile(r"Example: `prefecture ([^`]+)`")


def commands(app: App, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    for name in app:
        if not name.startswith("-"):
            yield (*path, name), app[name]
            yield from commands(app[name], (*path, name))


APP = make_app([])
COMMANDS = dict(commands(APP))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_example_of_a_command(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    assert command.default_command is not None
    (example,) = EXAMPLE.findall(" ".join((command.default_command.__doc__ or "").split()))
    function, _, _ = APP.parse_args(example, exit_on_error=False, print_error=False)
    assert function is command.default_command


def test_commands_are_for_users_or_for_operators() -> None:
    def group(command: str) -> str:
        given: Any = APP[command].group
        return str((given[0] if isinstance(given, tuple) else given).name)  # pyright: ignore

    groups = {path[0]: group(path[0]) for path in COMMANDS}
    assert {*groups.values()} == {"Users", "Operators"}
    assert groups["jobs"] == "Users"
    assert groups["up"] == "Operators"


@pytest.mark.parametrize("words", [["jobs"], ["schedule", "list"], ["completion", "bash"]])
def test_one_command_loads_as_all_do(words: list[str]) -> None:
    function, _, _ = make_app(words).parse_args(words, exit_on_error=False)
    assert function is COMMANDS[tuple(words[: 2 if words[0] == "schedule" else 1])].default_command


def test_bash_completes_commands_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    make_app(["completion"])(["completion", "bash"], result_action="return_value")
    script = capsys.readouterr().out
    asked = f"""{script}
COMP_WORDS=(prefecture jo); COMP_CWORD=1; _prefecture; echo "${{COMPREPLY[@]}}"
COMP_WORDS=(prefecture jobs --dir); COMP_CWORD=2; _prefecture; echo "${{COMPREPLY[@]}}"
COMP_WORDS=(prefecture schedule res); COMP_CWORD=2; _prefecture; echo "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["jobs", "--directory", "resume"], done.stderr


@pytest.mark.parametrize(
    "module", ["jobs", "queries", "selected", "schedules", "notifications", "login"]
)
def test_commands_for_users_do_not_wait_for_prefect(module: str) -> None:
    program = (
        f"import sys; import deployments.cli.main, deployments.cli.{module}\n"
        "import deployments.client.gateway.schedules\n"
        "print(*sorted({'prefect', 'sqlalchemy', 'fastapi', 'docker', 'numpy'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"
